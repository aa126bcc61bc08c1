import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("apache_beam")

from tfretrieval.beam import records
from tfretrieval.beam.options import BeamOptions
from tfretrieval.data import write_records
from tfretrieval.data.judgements import JudgedPhotos, QueryJudgement
from tfretrieval.data.object_sources import ObjectOptions, read_objects
from tfretrieval.data.sources import PhotoEntry, SourceOptions, read_folder
from tfretrieval.data.write_records import WriteOptions
from tfretrieval.errors import InputError

HERE = BeamOptions("DirectRunner")


def tree(directory):
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*")}


def both(entries, folder, options, running=HERE):
    alone, rejected = write_records.write_record_set(entries, folder / "alone", options)
    made, also = records.write_record_set(entries, folder / "made", options, running)
    assert tree(folder / "made") == tree(folder / "alone")
    assert (made.sha256, also) == (alone.sha256, rejected)
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []
    return made, also


@pytest.mark.parametrize("mode", ["", "--direct_num_workers=2 --direct_running_mode=multi_threading"])
def test_workers_write_the_bytes_that_one_process_writes(photo_folder, tmp_path, mode):
    entries = read_folder(photo_folder, SourceOptions(holdout_share=0.5, seed=1))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    entries.append(PhotoEntry("zz/broken.jpg", broken, "abbey", "train"))
    made, rejected = both(entries, tmp_path, WriteOptions("small", shards=3), BeamOptions("DirectRunner", mode))
    assert [photo.photo_id for photo in rejected] == ["zz/broken.jpg"]
    assert len(made.split("train").shards) == 3


def test_objects_too(boxed_photos, tmp_path):
    groups = ObjectOptions({"train": ("instances",)}, crop_objects=("train",))
    found = read_objects("coco", boxed_photos, SourceOptions(), groups)
    both(found.entries, tmp_path, WriteOptions("boxed", shards=4, classes=found.classes, orphans=found.orphans))


@pytest.fixture
def judged(tmp_path):
    entries, judgements = [], []
    for split, count in (("queries", 3), ("database", 5)):
        for number in range(count):
            path = tmp_path / f"{split}{number}.png"
            Image.fromarray(np.full((20, 30, 3), 20 * number, np.uint8)).save(path)
            entries.append(PhotoEntry(path.name, path, "x", split))
    for query in range(3):
        judgements.append(QueryJudgement((query,), (), (4,), (1 / 3, 0.1, 40.7, 10.0) if query else None, "g"))
    return JudgedPhotos(tuple(entries), tuple(judgements), "roxford5k", "ab" * 32)


def test_judgements_too(judged, tmp_path):
    (tmp_path / "sets").mkdir()
    made, _ = both(judged.entries, tmp_path / "sets", WriteOptions("judged", shards=2, judged=judged))
    assert made.split("queries").judgements[0].junk == (4,)


def test_a_photo_that_the_ground_truth_needs_is_wanted(judged, tmp_path):
    judged.entries[4].path.write_bytes(b"")
    with pytest.raises(InputError, match=r"^the photo .*database1\.png of the split 'database' cannot be used"):
        records.write_record_set(judged.entries, tmp_path / "set", WriteOptions("judged", judged=judged), HERE)
    assert not (tmp_path / "set").exists()


def test_shards_that_are_done_stay_when_the_job_is_cut_off(photo_folder, tmp_path, monkeypatch):
    entries, options = read_folder(photo_folder, SourceOptions()), WriteOptions("small", shards=5)
    real, done = records.WriteShard.process, []

    def process(self, file):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(file)
        yield from real(self, file)

    monkeypatch.setattr(records.WriteShard, "process", process)
    with pytest.raises((KeyboardInterrupt, InputError)):
        records.write_record_set(entries, tmp_path / "made", options, HERE)
    assert len(done) == 3 and not (tmp_path / "made").exists()

    def again(self, file):
        assert file not in done[:3]
        done.append(file)
        yield from real(self, file)

    monkeypatch.setattr(records.WriteShard, "process", again)
    both(entries, tmp_path, options)
    assert len(set(done)) == len(done) == 5


def test_workers_may_see_the_photos_elsewhere(photo_folder, tmp_path):
    shutil.copytree(photo_folder, tmp_path / "far" / "photos")
    entries = [
        dataclasses.replace(entry, path=tmp_path / "near" / "photos" / entry.path.relative_to(photo_folder))
        for entry in read_folder(photo_folder, SourceOptions())
    ]
    running = BeamOptions("DirectRunner", mounts=f"{tmp_path / 'near'}={tmp_path / 'far'}")
    made, _ = records.write_record_set(entries, tmp_path / "made", WriteOptions("small", shards=2), running)
    shutil.rmtree(tmp_path / "made")
    (tmp_path / "near").symlink_to(tmp_path / "far")
    alone, _ = write_records.write_record_set(entries, tmp_path / "alone", WriteOptions("small", shards=2))
    assert made.sha256 == alone.sha256


def test_too_many_rejected_photos_write_nothing(photo_folder, tmp_path):
    entries = read_folder(photo_folder, SourceOptions())
    with pytest.raises(InputError, match="had to be rejected"):
        records.write_record_set(entries, tmp_path / "made", WriteOptions("small", max_pixels=1), HERE)
    assert not (tmp_path / "made").exists()
