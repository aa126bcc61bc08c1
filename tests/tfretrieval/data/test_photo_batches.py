import dataclasses
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.data import records
from tfretrieval.data.batch_plan import BatchPlan, plan_batches
from tfretrieval.data.photo_batches import read_batches
from tfretrieval.data.photo_store import PhotoRows

SIDE = 40


@pytest.fixture(scope="module")
def photos(decoded_one_by_one):
    return decoded_one_by_one(SIDE)


@pytest.fixture
def broken(train, tmp_path):
    """The split with four records at fault: a changed byte, another kind of file, a cut JPEG, a cut shard."""
    paths = [tmp_path / path.name for path in train.shards]
    for path, copy in zip(train.shards, paths, strict=True):
        copy.write_bytes(path.read_bytes())
    changed = bytearray(paths[0].read_bytes())
    changed[int(train.offset[1]) + 30] ^= 1
    paths[0].write_bytes(changed)
    last = paths[-1].read_bytes()
    paths[-1].write_bytes(last[:-20])
    writer, offset, place, length = (
        tf.io.TFRecordWriter(str(tmp_path / "own")),
        0,
        train.offset.copy(),
        train.length.copy(),
    )
    for row, encoded in ((2, b"plain text"), (6, b"")):
        record = records.decode_record(train.read(row))
        encoded = encoded or record.photo.encoded[:200]
        photo = dataclasses.replace(record.photo, encoded=encoded)
        data = records.serialize_record(dataclasses.replace(record, photo=photo))
        place[row], length[row] = offset + records.HEADER_BYTES, len(data)
        offset += len(data) + records.HEADER_BYTES + records.FOOTER_BYTES
        writer.write(data)
    writer.close()
    shard = train.shard.copy()
    shard[[2, 6]] = len(paths)
    return dataclasses.replace(train, shards=(*paths, tmp_path / "own"), shard=shard, offset=place, length=length)


def plan(source, batch_size=4):
    return BatchPlan.of(plan_batches(source.sizes, batch_size, 10**6))


def test_batches_are_the_photos_of_their_rows(train, photos):
    source = PhotoRows.of(train, SIDE)
    batches = plan(source)
    found = list(read_batches(source, batches))
    assert [batch.rows.tolist() for batch in found] == [rows.tolist() for rows in batches]
    for batch in found:
        assert batch.photos.dtype == np.uint8 and batch.rejected == {}
        np.testing.assert_array_equal(batch.photos, np.stack([photos[row] for row in batch.rows]))


def test_no_batches_are_none(train):
    assert list(read_batches(PhotoRows.of(train, SIDE), BatchPlan.of([]))) == []


def test_what_cannot_be_read_is_told_and_the_rest_is_as_before(broken, photos):
    source = PhotoRows.of(broken, SIDE)
    found = list(read_batches(source, plan(source)))
    rejected = {row: why for batch in found for row, why in batch.rejected.items()}
    assert sorted(rejected) == [1, 2, 6, 14]
    assert rejected[1].startswith("corrupted record at")
    assert "neither a JPEG nor a PNG, which records hold" in rejected[2]
    assert "{{" not in "".join(rejected.values()) and "\n" not in "".join(rejected.values())
    assert sorted(row for batch in found for row in batch.rows.tolist()) == sorted({*range(15)} - {*rejected})
    for batch in found:
        assert len(batch.rows) == len(batch.photos)
        for row, photo in zip(batch.rows, batch.photos, strict=True):
            np.testing.assert_array_equal(photo, photos[row])


def test_a_photo_of_another_size_than_the_index_says_is_rejected(train, photos):
    sizes = PhotoRows.of(train, SIDE).sizes.copy()
    other = next(row for row in range(15) if tuple(sizes[row]) != tuple(sizes[0]))
    wrong = PhotoRows(np.broadcast_to(sizes[0], sizes.shape), PhotoRows.of(train, SIDE).photo)
    (batch,) = read_batches(wrong, BatchPlan.of([np.array([0, other])]))
    assert batch.rows.tolist() == [0]
    height, width = sizes[other]
    assert f"decoded to {height} x {width} pixels, and by the records' index to" in batch.rejected[other]
    np.testing.assert_array_equal(batch.photos, [photos[0]])


def test_no_more_than_three_batches_are_held(train):
    source, read = PhotoRows.of(train, SIDE), []

    def photo(row):
        tf.py_function(lambda at: read.append(int(at)), [row], [])
        return source.photo(row)

    batches = BatchPlan.of([np.array([0])] * 60)
    stream = read_batches(PhotoRows(source.sizes, photo), batches)
    next(stream)
    time.sleep(0.5)
    held = len(read)
    time.sleep(0.3)
    assert len(read) == held < 20
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(_fill)")]


def test_rows_may_be_chosen_and_repeated(train, photos):
    source = PhotoRows.of(train, SIDE).select(np.array([7, 0, 7]))
    for batch in read_batches(source, BatchPlan.of([np.array([2]), np.array([0]), np.array([1])])):
        np.testing.assert_array_equal(batch.photos[0], photos[[7, 0, 7][batch.rows[0]]])
