import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.data import pipeline

SIDE = 40


@pytest.fixture(scope="module")
def photos(decoded_one_by_one):
    return decoded_one_by_one(SIDE)


def test_records_carry_their_row_in_the_split(train):
    found = dict(pipeline.read_records(train).as_numpy_iterator())
    assert found == {row: train.read(row) for row in range(15)}


def test_the_order_of_records_is_repeatable(train):
    orders = [[int(row) for row, _ in pipeline.read_records(train).as_numpy_iterator()] for _ in range(3)]
    assert orders[0] == orders[1] == orders[2]
    assert sorted(orders[0]) == list(range(15))


def test_photos_of_one_shard_come_in_the_order_of_their_rows(train):
    order = [int(row) for row, _ in pipeline.read_records(train).as_numpy_iterator()]
    for shard in range(3):
        rows = [row for row in order if train.shard[row] == shard]
        assert rows == sorted(rows)


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_workers_share_the_rows_without_overlap(train, workers):
    shares = [
        [int(row) for row, _ in pipeline.read_records(train, worker, workers).as_numpy_iterator()]
        for worker in range(workers)
    ]
    assert sorted(row for rows in shares for row in rows) == list(range(15))
    for worker, rows in enumerate(shares):
        assert {int(train.shard[row]) % workers for row in rows} <= {worker}


def test_decoded_photos_are_those_of_their_rows(train, photos):
    found = dict(pipeline.decoded_photos(train, SIDE).as_numpy_iterator())
    assert sorted(found) == list(range(15))
    for row, photo in found.items():
        np.testing.assert_array_equal(photo, photos[row])


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_batches_of_equal_shape_lose_nothing_and_mix_no_shape(train, photos, batch_size):
    batches = list(pipeline.batches_of_equal_shape(pipeline.decoded_photos(train, SIDE), batch_size))
    assert sorted(int(row) for rows, _ in batches for row in rows) == list(range(15))
    for rows, batch in batches:
        assert 1 <= len(rows) == len(batch) <= batch_size
        for row, photo in zip(rows.numpy(), batch.numpy(), strict=True):
            np.testing.assert_array_equal(photo, photos[row])
    for shape in {photo.shape for photo in photos}:
        sizes = [len(rows) for rows, batch in batches if batch.shape[1:] == shape]
        assert sum(size < batch_size for size in sizes) <= 1  # only the last batch of a shape may be smaller


def test_shapes_with_the_same_number_of_pixels_are_kept_apart():
    shapes = [(2, 6), (6, 2), (3, 4), (4, 3), (2, 6), (1, 12)]
    dataset = tf.data.Dataset.from_generator(
        lambda: ((row, np.zeros((*shape, 3), np.uint8)) for row, shape in enumerate(shapes)),
        output_signature=(tf.TensorSpec([], tf.int64), tf.TensorSpec([None, None, 3], tf.uint8)),
    )
    batches = pipeline.batches_of_equal_shape(dataset, 8)
    found = {tuple(rows.numpy().tolist()): tuple(batch.shape[1:3]) for rows, batch in batches}
    assert found == {(0, 4): (2, 6), (1,): (6, 2), (2,): (3, 4), (3,): (4, 3), (5,): (1, 12)}
