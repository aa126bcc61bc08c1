import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from export import describing
from export.running import RunningOptions, device_names, extractor_of
from tfretrieval import console, provenance
from tfretrieval.data.photo_store import PhotoRows
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.extraction import Extractor

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def network(tiny_run):
    return tiny_run.load_model()


def test_a_frozen_network_gives_the_descriptors_of_the_keras_model(network, record_set):
    split = record_set.split("database")
    extractor, measured = extractor_of(network, 48, 5, RunningOptions())
    assert measured == {}
    np.testing.assert_allclose(extractor(split), Extractor(network, 48)(split), atol=2e-5)


def test_bfloat16_is_measured_told_and_another_input(network, tiny_run, record_set, tmp_path):
    split = record_set.split("database")
    describers = {
        kind: describing.from_model(tiny_run.path, running=RunningOptions(precision=kind))
        for kind in ("float32", "bfloat16")
    }
    header = provenance.header({}, None, {"records": record_set.sha256})
    bar = lambda total: console.progress(None, "", total)  # noqa: E731
    plain, _ = describers["float32"].extract_shards(split, tmp_path / "d", 3, bar, header)
    coarse = describers["bfloat16"].extract(split, bar, header)
    assert "precision" not in plain.meta
    assert coarse.meta["precision"]["name"] == "bfloat16"
    assert 0.999 <= coarse.meta["precision"]["min_cosine"] < 1
    cosines = (plain.vectors * coarse.vectors).sum(axis=1)
    assert cosines.min() >= 0.999 and (plain.vectors != coarse.vectors).any()
    with pytest.raises(InputError, match=r"\(precision was float32 and is bfloat16\)"):
        describers["bfloat16"].extract_shards(split, tmp_path / "d", 3, bar, header)


def test_shards_hold_what_a_run_gives_at_once_and_rejected_photos_are_listed(tiny_run, record_set, tmp_path):
    split, describer = record_set.split("database"), describing.from_model(tiny_run.path, batch_photos=4)
    header = provenance.header({}, None, {"records": record_set.sha256})
    bar = lambda total: console.progress(None, "", total)  # noqa: E731
    found, speed = describer.extract_shards(split, tmp_path / "d", 3, bar, header)
    at_once = describer.extract(split, bar, header)
    np.testing.assert_allclose(found.vectors, at_once.vectors, atol=1e-5)
    timeless = {key: value for key, value in at_once.meta.items() if key != "milliseconds_per_photo"}
    assert found.meta == timeless and found.ids == split.ids
    assert speed.photos == 12 and sum(speed.shares().values()) == pytest.approx(1, abs=1e-3)
    again, none = describer.extract_shards(split, tmp_path / "d", 3, bar, header)
    assert none.photos == 0 and again.ids == found.ids
    assert Descriptors.load(tmp_path / "d").rows([split.ids[4]], "").shape == (1, found.vectors.shape[1])
    # The JPEG's bytes are moved in their record: its checksum no longer holds.
    split.offset[5] += 1
    try:
        broken, _ = describer.extract_shards(split, tmp_path / "broken", 3, bar, header, max_rejected=0.1)
        with pytest.raises(InputError, match="1 of 12 photos had to be rejected so far"):
            describer.extract_shards(split, tmp_path / "refused", 3, bar, header, max_rejected=0.05)
    finally:
        split.offset[5] -= 1
    assert broken.ids == (*split.ids[:5], *split.ids[6:])
    lines = (tmp_path / "broken" / "rejected.csv").read_text().splitlines()
    assert len(lines) == 2 and lines[1].startswith(f"{split.ids[5]},database,")


def test_what_describes_splits_as_a_whole_describes_their_parts(record_set, tmp_path):
    split, asked = record_set.split("database"), []
    rows = {photo: np.full(4, row, np.float32) for row, photo in enumerate(split.ids)}

    def describe(part, progress):
        asked.append(len(part))
        assert part.sizes.tolist() == split.sizes[[split.ids.index(photo) for photo in part.ids]].tolist()
        bar = progress(len(part))
        bar.update(len(part))
        bar.close()
        return np.stack([rows[photo] for photo in part.ids])

    describer = describing.Describer("server:1", {"image_size": 48}, describe)
    header = provenance.header({}, None, {"records": record_set.sha256})
    found, speed = describer.extract_shards(split, tmp_path / "d", 5, lambda total: None, header)
    assert asked == [2, 2, 3, 2, 3] and speed.photos == 12 and speed.shares() == {}
    np.testing.assert_array_equal(found.vectors, np.stack(list(rows.values())))
    other = describing.Describer("server:2", {"image_size": 48}, describe)
    with pytest.raises(InputError, match="model was server:1 and is server:2"):
        other.extract_shards(split, tmp_path / "d", 5, lambda total: None, header)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "int8"}, "--precision=int8; float32 or bfloat16 is wanted"),
        ({"devices": -1}, "--devices=-1"),
        ({"batch_pixels": -5}, "--batch_pixels=-5"),
    ],
)
def test_options_out_of_range_are_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        RunningOptions(**options)


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(InputError, match=r"--devices=99, and there are \d+ of the kind"):
        device_names(99)


TWO_DEVICES = """
import json, sys, threading
from tfretrieval import console
console.quiet_tensorflow()
import numpy as np
import tensorflow as tf
from export import running
from tfretrieval.data.record_set import RecordSet
from tfretrieval.training.run_directory import RunDirectory

run, records, output = sys.argv[1:]
options = running.RunningOptions(devices=2)
running.prepare(options)
split = RecordSet.load(records).split("database")
network = RunDirectory.load(run).load_model()
names = running.device_names(2)
extractor, _ = running.extractor_of(network, 48, 2, options)
frozen = running.FrozenNetwork(network)
photos = tf.zeros([1, 20, 30, 3], tf.uint8)
told = {"names": names, "computed": [frozen.on(name)(photos).backing_device for name in names], "batches": []}
for number, forward in enumerate(extractor._forward):
    def counted(photos, number=number, forward=forward):
        found = forward(photos)
        told["batches"].append([number, found.backing_device])
        return found
    extractor._forward[number] = counted
np.save(output, extractor(split))
print(json.dumps(told))
"""


def test_two_devices_share_the_batches_and_give_the_same(tiny_run, network, record_set, tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(TWO_DEVICES)]
    given = [tiny_run.path, record_set.directory, tmp_path / "two.npy"]
    done = subprocess.run([*command, *map(str, given)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [name[-5:] for name in told["names"]] == ["CPU:0", "CPU:1"]
    assert [name[-5:] for name in told["computed"]] == ["CPU:0", "CPU:1"]
    assert {(number, device[-5:]) for number, device in told["batches"]} == {(0, "CPU:0"), (1, "CPU:1")}
    extractor, _ = extractor_of(network, 48, 2, RunningOptions())
    split = record_set.split("database")
    one = extractor.describe(PhotoRows.of(split, 48), split.ids)
    np.testing.assert_allclose(np.load(tmp_path / "two.npy"), one, atol=1e-6)
