"""tf.data pipelines over records, for reading whole splits: parallel, in order, in batches of equal shape."""

import tensorflow as tf

from tfretrieval.data import decoding, records
from tfretrieval.data.parallel import CORES, steady
from tfretrieval.data.record_set import Split

_SHAPE_RADIX = 1 << 16


def read_records(split: Split, worker: int = 0, workers: int = 1) -> tf.data.Dataset:
    """Reads the records of a split from its shards, several shards at a time, in a repeatable order.

    Args:
        split: the split.
        worker: number of this worker, 0-based; it reads every `workers`-th shard.
        workers: how many workers share the shards.

    Returns:
        A dataset of (row, serialised record): int64 scalar, the photo's row in the split, and string scalar.
    """
    counts = [int((split.shard == shard).sum()) for shard in range(len(split.shards))]
    first = [sum(counts[:shard]) for shard in range(len(counts))]
    shards = tf.data.Dataset.from_tensor_slices(([str(path) for path in split.shards], tf.constant(first, tf.int64)))
    interleaved = shards.shard(workers, worker).interleave(
        lambda path, start: tf.data.TFRecordDataset(path).enumerate(start),
        cycle_length=4,
        block_length=16,
        num_parallel_calls=min(4, CORES),
    )
    return steady(interleaved)


def decoded_photos(split: Split, longer_side: int, worker: int = 0, workers: int = 1) -> tf.data.Dataset:
    """Reads and decodes the photos of a split.

    Args:
        split: the split.
        longer_side: pixels; see `decoding.decode_photo`.
        worker: number of this worker.
        workers: how many workers share the shards.

    Returns:
        A dataset of (row int64 scalar, photo uint8 [h, w, 3]).
    """

    def decode(row: tf.Tensor, serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        encoded = records.parse_record(serialized, ("image/encoded",))["image/encoded"]
        return row, decoding.decode_photo(encoded, longer_side)

    return steady(read_records(split, worker, workers).map(decode, num_parallel_calls=CORES).prefetch(CORES))


def batches_of_equal_shape(photos: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Groups photos of exactly equal shape into batches, so that nothing has to be padded or run singly.

    Args:
        photos: a dataset of (row, photo [h, w, 3]).
        batch_size: photos in a batch; less where a shape has fewer.

    Returns:
        A dataset of (rows int64 [n], photos uint8 [n, h, w, 3]).
    """

    def shape_code(_: tf.Tensor, photo: tf.Tensor) -> tf.Tensor:
        shape = tf.cast(tf.shape(photo), tf.int64)
        return shape[0] * _SHAPE_RADIX + shape[1]

    grouped = photos.group_by_window(shape_code, lambda _, group: group.batch(batch_size), window_size=batch_size)
    return steady(grouped.prefetch(2))
