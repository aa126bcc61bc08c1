import csv
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.data import records
from tfretrieval.data.record_set import RecordSet
from tfretrieval.errors import InputError


@pytest.fixture
def copy(record_set, tmp_path):
    """A copy of the shared set that a test may damage."""
    return shutil.copytree(record_set.directory, tmp_path / "records")


def test_splits_hold_what_the_fixture_promises(record_set):
    assert {name: len(split) for name, split in record_set.splits.items()} == {
        "train": 15,
        "queries": 3,
        "database": 12,
    }
    assert record_set.labels == ("abbey", "bridge", "castle", "dome", "old town/gate", "old town/tower")


@pytest.mark.parametrize("name", ["train", "queries", "database"])
def test_read_gives_the_bytes_that_tfrecorddataset_reads(record_set, name):
    split = record_set.splits[name]
    expected = list(tf.data.TFRecordDataset([str(path) for path in split.shards]).as_numpy_iterator())
    assert [split.read(row) for row in range(len(split))] == expected


@pytest.mark.parametrize("name", ["train", "queries", "database"])
def test_ids_labels_and_sizes_are_those_of_the_records(record_set, name):
    split = record_set.splits[name]
    for row in range(len(split)):
        record = records.decode_record(split.read(row))
        assert record.photo_id == split.ids[row]
        assert record.label == split.labels[row]
        assert record.instance == record_set.labels[split.labels[row]]
        assert [record.photo.height, record.photo.width] == split.sizes[row].tolist()
    assert (split.labels.dtype, split.sizes.dtype, split.offset.dtype) == (np.int64, np.int32, np.int64)


def test_a_split_is_found_by_name_and_an_unknown_one_names_those_there(record_set):
    assert record_set.split("queries") is record_set.splits["queries"]
    with pytest.raises(InputError, match="holds the splits database, queries, train; --split=validation does not"):
        record_set.split("validation")
    with pytest.raises(InputError, match="--split= does not name one"):
        record_set.split()


def test_verify_accepts_what_was_written(copy):
    RecordSet.load(copy).verify()


def test_verify_names_a_shard_whose_bytes_changed(copy):
    shard = copy / "train-00001-of-00003.tfrecord"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    loaded = RecordSet.load(copy)  # the size is right
    with pytest.raises(InputError, match=rf"{re.escape(str(shard))} has changed since it was written"):
        loaded.verify()


def test_load_names_a_truncated_and_a_missing_shard(copy):
    shard = copy / "database-00002-of-00003.tfrecord"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    with pytest.raises(
        InputError, match=rf"{re.escape(str(shard))} is truncated or changed: it has {len(data) - 1} bytes.*{len(data)}"
    ):
        RecordSet.load(copy)
    shard.unlink()
    with pytest.raises(InputError, match=rf"{re.escape(str(shard))} is missing"):
        RecordSet.load(copy)


def test_read_names_a_shard_that_was_cut_after_loading(copy):
    split = RecordSet.load(copy).splits["train"]
    split.shards[2].write_bytes(split.shards[2].read_bytes()[:-50])
    split.read(0)
    with pytest.raises(
        InputError, match=rf"{re.escape(str(split.shards[2]))} is truncated: the record of .* cut short"
    ):
        split.read(14)


def test_load_names_a_missing_directory_and_a_missing_description(tmp_path):
    with pytest.raises(InputError, match=rf"--records={tmp_path}/nowhere is not a directory"):
        RecordSet.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"dataset\.json is missing; the output of pipelines\.make_records"):
        RecordSet.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("splits"),
        lambda value: value.pop("labels"),
        lambda value: value.update(splits=[1]),
        lambda value: value.update(labels=None),
        lambda value: value["splits"]["train"]["shards"][0].pop("bytes"),
        lambda value: value["splits"]["train"]["shards"][0].update(colour="red"),
    ],
)
def test_load_refuses_a_description_of_another_shape(copy, change):
    value = json.loads((copy / "dataset.json").read_text(encoding="utf-8"))
    change(value)
    (copy / "dataset.json").write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(InputError, match=r"dataset\.json is not a record set's description"):
        RecordSet.load(copy)


def rewrite_index(directory, change):
    path = directory / "photos.csv"
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.reader(lines))
    with path.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows(change(rows))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: rows[1:], "does not begin with the columns split, shard, offset"),
        (lambda rows: [], "does not begin with the columns"),
        (lambda rows: rows[:-1], "lists 11 photos of 'database', unlike dataset.json"),
        (lambda rows: [*rows, ["test", *rows[-1][1:]]], "has a line that cannot be read"),
        (lambda rows: [*rows[:-1], rows[-1][:4]], "has a line that cannot be read"),
        (lambda rows: [*rows[:-1], [*rows[-1][:2], "far", *rows[-1][3:]]], "has a line that cannot be read"),
        (lambda rows: [*rows[:-1], [rows[-1][0], "other.tfrecord", *rows[-1][2:]]], "has a line that cannot be read"),
    ],
)
def test_load_refuses_a_changed_index(copy, change, sentence):
    rewrite_index(copy, change)
    with pytest.raises(InputError, match=rf"photos\.csv {sentence}"):
        RecordSet.load(copy)


def test_load_names_a_missing_index(copy):
    (copy / "photos.csv").unlink()
    with pytest.raises(InputError, match=r"photos\.csv is missing"):
        RecordSet.load(copy)
