import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.data import decoding, records
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
