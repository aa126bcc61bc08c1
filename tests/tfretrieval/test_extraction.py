import dataclasses
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.data import decoding, records
from tfretrieval.data.photo_store import PhotoRows
from tfretrieval.errors import InputError
from tfretrieval.extraction import Extractor

SIDE = 40


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(6, 3, strides=2, activation="relu")(keras.layers.Rescaling(1 / 255)(pixels))
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    return keras.Model(pixels, keras.layers.UnitNormalization()(keras.layers.Dense(5)(pooled)))


@pytest.fixture(scope="module")
def database(record_set):
    return record_set.splits["database"]


@pytest.fixture(scope="module")
def expected(model, database):
    """The descriptors of a loop that runs one photo at a time."""
    vectors = []
    for row in range(len(database)):
        encoded = records.decode_record(database.read(row)).photo.encoded
        photo = tf.cast(decoding.decode_photo(tf.constant(encoded), SIDE), tf.float32)
        vectors.append(model(photo[tf.newaxis], training=False).numpy()[0])
    return np.stack(vectors)


@pytest.fixture(scope="module")
def extractor(model):
    return Extractor(model, SIDE)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_photos_of_mixed_shapes_give_what_a_loop_over_them_gives(model, database, expected, batch_size):
    assert len({tuple(size) for size in database.sizes.tolist()}) > 2
    vectors = Extractor(model, SIDE, batch_size)(database)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_rows_are_extracted_in_their_order_with_repeats(extractor, database, expected):
    rows = np.array([11, 0, 5, 0, 7, 3])
    np.testing.assert_allclose(extractor(database, rows), expected[rows], atol=1e-5)


def test_an_extractor_serves_several_splits_one_after_the_other(extractor, record_set, expected):
    queries = extractor(record_set.splits["queries"])
    assert queries.shape == (3, 5)
    np.testing.assert_allclose(extractor(record_set.splits["database"]), expected, atol=1e-5)
    np.testing.assert_array_equal(extractor(record_set.splits["queries"]), queries)


def test_no_rows_give_no_descriptors(extractor, database):
    assert extractor(database, np.array([], np.int64)).shape == (0, 5)


@pytest.mark.parametrize("rows", [None, np.array([2, 4, 2])])
def test_progress_counts_every_photo_and_closes(extractor, database, rows):
    told = []

    class Bar:
        def __init__(self, total):
            told.append(("total", total))

        def update(self, count):
            told.append(("photos", count))

        def close(self):
            told.append(("closed", 0))

    extractor(database, rows, progress=Bar)
    total = 12 if rows is None else 3
    assert told[0] == ("total", total)
    assert told[-1] == ("closed", 0)
    assert sum(count for kind, count in told if kind == "photos") == total


@pytest.mark.parametrize("pixels", [1, 5000, 10**9])
def test_limits_on_pixels_change_no_descriptor(model, database, expected, pixels):
    np.testing.assert_allclose(Extractor(model, SIDE, 32, pixels)(database), expected, atol=1e-5)


def test_parts_are_those_of_their_rows_and_the_same_bytes_each_time(extractor, database, expected):
    photos, parts, done = PhotoRows.of(database, SIDE), [range(0, 5), range(5, 6), range(9, 12)], []
    found = list(extractor.parts(photos, parts, done.append))
    for part, (vectors, rejected) in zip(parts, found, strict=True):
        np.testing.assert_allclose(vectors, expected[list(part)], atol=1e-5)
        assert rejected == {}
    assert sum(done) == 9
    alone = [next(extractor.parts(photos, [part])) for part in parts]
    assert [part.vectors.tobytes() for part in alone] == [part.vectors.tobytes() for part in found]


def test_the_network_begins_with_a_part_when_it_is_asked_for(extractor, database):
    done = []
    parts = extractor.parts(PhotoRows.of(database, SIDE), [range(0, 2), range(2, 12)], done.append)
    next(parts)
    busy = extractor.busy_seconds
    time.sleep(0.3)
    assert sum(done) == 2 and extractor.busy_seconds == busy
    next(parts)
    assert sum(done) == 12 and extractor.busy_seconds > busy


def test_a_photo_that_cannot_be_read_is_told_or_named(extractor, database, expected):
    offset = database.offset.copy()
    offset[[3, 7]] += 1
    broken = dataclasses.replace(database, offset=offset)
    done = []
    (found,) = extractor.parts(PhotoRows.of(broken, SIDE), [range(12)], done.append)
    assert sorted(found.rejected) == [3, 7] and all(found.rejected.values())
    np.testing.assert_allclose(found.vectors, np.delete(expected, [3, 7], axis=0), atol=1e-5)
    assert sum(done) == 12
    with pytest.raises(InputError, match=rf"the photo '{database.ids[3]}' cannot be read: .*; make the records again"):
        extractor(broken)
    with pytest.raises(InputError, match=rf"the photo '{database.ids[7]}' cannot be read"):
        extractor(broken, np.array([5, 7, 5]))
