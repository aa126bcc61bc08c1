import dataclasses
import json
import shutil

import numpy as np
import pytest

pytest.importorskip("apache_beam")

from export import describing
from export.running import RunningOptions
from export.shard_loading import LoadedParts
from tfretrieval import provenance
from tfretrieval.beam import extraction
from tfretrieval.beam.options import BeamOptions
from tfretrieval.errors import InputError

HERE = BeamOptions("DirectRunner")
FILES = ("vectors.npy", "ids.txt", "rejected.csv", "shards.json", "meta.json", "extraction.json")


@pytest.fixture(scope="module")
def describer(tiny_run):
    return describing.from_model(tiny_run.path, 4)


@pytest.fixture(scope="module")
def header(record_set):
    return provenance.header({}, None, {"records": record_set.sha256})


@pytest.fixture(scope="module")
def alone(describer, header, record_set, tmp_path_factory):
    """What this process writes without Beam, in five shards."""
    output = tmp_path_factory.mktemp("alone") / "db"
    describer.extract_shards(record_set.split("database"), output, 5, lambda _: None, header)
    return output


def job(describer, header, record_set, tiny_run, output):
    split = record_set.split("database")
    work, meta = describer.begin_shards(split, output, 5, header)
    load = LoadedParts("database", 4, "best", "scaled", RunningOptions())
    return extraction.Job(work, load, tiny_run.path, record_set.directory, split, meta)


@pytest.mark.parametrize("mode", ["", "--direct_num_workers=2 --direct_running_mode=multi_threading"])
def test_workers_write_the_bytes_that_one_process_writes(
    alone, describer, header, record_set, tiny_run, tmp_path, mode
):
    wanted = job(describer, header, record_set, tiny_run, tmp_path / "db")
    found, speed = extraction.extract_shards(wanted, BeamOptions("DirectRunner", mode))
    for name in FILES:
        assert (tmp_path / "db" / name).read_bytes() == (alone / name).read_bytes(), name
    assert {path.name for path in (tmp_path / "db").iterdir()} == {path.name for path in alone.iterdir()}
    assert len(found) == speed.photos == 12


def test_shards_that_are_done_are_not_done_again(alone, describer, header, record_set, tiny_run, tmp_path):
    wanted = job(describer, header, record_set, tiny_run, tmp_path / "db")
    model = extraction.ShardModelHandler(wanted, extraction.Places()).load_model()
    for shard in (0, 3):
        (part,) = model.describer.parts([wanted.work.rows(shard)], lambda _: None)
        wanted.work.commit(shard, part)
    _, speed = extraction.extract_shards(wanted, HERE)
    assert speed.photos == 12 - len(wanted.work.rows(0)) - len(wanted.work.rows(3))
    assert (tmp_path / "db" / "vectors.npy").read_bytes() == (alone / "vectors.npy").read_bytes()
    again, speed = extraction.extract_shards(wanted, HERE)
    assert (len(again), speed.photos) == (12, 0)


def test_workers_may_see_the_files_elsewhere(alone, describer, header, record_set, tiny_run, tmp_path):
    far = tmp_path / "far"
    shutil.copytree(record_set.directory, far / "records")
    shutil.copytree(tiny_run.path, far / "run")
    (far / "db").mkdir()
    here = tmp_path / "here"
    here.symlink_to(far)
    wanted = job(describer, header, record_set, tiny_run, here / "db")
    wanted = dataclasses.replace(wanted, records=here / "records", model=here / "run")
    extraction.extract_shards(wanted, dataclasses.replace(HERE, mounts=f"{here}={far}"))
    assert (here / "db" / "vectors.npy").read_bytes() == (alone / "vectors.npy").read_bytes()


def test_a_copy_of_records_holds_only_the_shards_in_use(record_set, tmp_path):
    places = extraction.Places(((str(tmp_path / "nowhere"), str(record_set.directory)),))
    copy = extraction.RecordsOnWorker.open(tmp_path / "nowhere", places, tmp_path / "copy")
    split = extraction.RecordSet.load(copy.directory).split("database")
    empty = split.shards[0].read_bytes()
    assert not any(empty) and len(empty) == split.shards[0].stat().st_size
    with copy.holding([split.shards[0]]):
        assert split.read(0) == record_set.split("database").read(0)
        assert not any(split.shards[1].read_bytes())
    assert split.shards[0].read_bytes() == empty


def test_rejected_photos_are_listed_and_too_many_refused(describer, header, record_set, tiny_run, tmp_path):
    broken = tmp_path / "records"
    shutil.copytree(record_set.directory, broken)
    split = extraction.RecordSet.load(broken).split("database")
    shard = split.shards[split.shard[4]]
    data = bytearray(shard.read_bytes())
    data[int(split.offset[4]) + 100] ^= 255
    shard.write_bytes(data)
    wanted = dataclasses.replace(
        job(describer, header, record_set, tiny_run, tmp_path / "db"), records=broken, split=split
    )
    with pytest.raises(InputError, match=f"1 of 12 photos had to be rejected .first {split.ids[4]!r}"):
        extraction.extract_shards(wanted, HERE, max_rejected=0.0)
    found, _ = extraction.extract_shards(wanted, HERE, max_rejected=0.1)
    assert found.ids == (*split.ids[:4], *split.ids[5:])
    assert len((tmp_path / "db" / "rejected.csv").read_text().splitlines()) == 2


def test_the_directory_is_a_normal_one(alone):
    meta = json.loads((alone / "meta.json").read_text())
    assert meta["split"] == "database"
    assert np.load(alone / "vectors.npy").dtype == np.float32
