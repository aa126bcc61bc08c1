import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.data import decoding, photo_store
from tfretrieval.data.photo_store import PhotoStore

SIDE = 37  # does not divide the photos' sizes, so that the sizes are rounded


@pytest.fixture(scope="module")
def photos(decoded_one_by_one):
    return decoded_one_by_one(SIDE)


@pytest.mark.parametrize("cache_bytes", [2 << 30, 0])
def test_each_row_gives_its_photo_from_memory_and_from_disk(train, photos, cache_bytes):
    store = PhotoStore(train, SIDE, cache_bytes)
    assert store.cached == bool(cache_bytes)
    order = np.array([14, 3, 0, 3, *range(15)], np.int64)
    dataset = tf.data.Dataset.from_tensor_slices(order).map(store.photo)
    assert dataset.element_spec == tf.TensorSpec([None, None, 3], tf.uint8)
    for row, photo in zip(order, dataset.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(photo, photos[row])


def test_photos_are_cached_up_to_the_limit_and_not_above(train, photos):
    total = sum(photo.size for photo in photos)
    assert PhotoStore(train, SIDE, total).cached
    assert not PhotoStore(train, SIDE, total - 1).cached


def test_progress_sees_each_photo_once(train):
    seen = []

    def counting(photos):
        for row, photo in photos:
            seen.append(int(row))
            yield row, photo

    PhotoStore(train, SIDE, progress=counting)
    assert sorted(seen) == list(range(15))


@pytest.mark.parametrize("longer_side", [1, 7, 37, 64, 1000])
def test_the_sizes_foreseen_are_those_decoded(train, longer_side):
    sizes = photo_store.decoded_sizes(train.sizes, longer_side)
    expected = [decoding.target_size(tf.constant(size), longer_side).numpy().tolist() for size in train.sizes]
    assert sizes.tolist() == expected
    assert sizes.dtype == np.int64


def test_read_rows_keeps_the_order_given_with_repeats(train, photos):
    order = [7, 7, 0, 14, 2, 7]
    found = list(photo_store.read_rows(train, np.array(order), SIDE).as_numpy_iterator())
    assert [int(row) for row, _ in found] == order
    for row, photo in found:
        np.testing.assert_array_equal(photo, photos[row])


def test_read_rows_of_no_rows_is_empty(train):
    assert list(photo_store.read_rows(train, np.array([], np.int64), SIDE)) == []
