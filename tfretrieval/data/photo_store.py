"""Random access to decoded photos, which tuples and balanced batches need: from memory where they fit, or disk."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfretrieval.data import decoding, pipeline, records
from tfretrieval.data.parallel import CORES, steady
from tfretrieval.data.record_set import Split


def decoded_sizes(sizes: np.ndarray, longer_side: int | np.ndarray) -> np.ndarray:
    """Returns the sizes that `decoding.target_size` gives photos.

    Args:
        sizes: int [N, 2], heights and widths in pixels.
        longer_side: most pixels of the longer sides; one for all, or int [N].

    Returns:
        int64 [N, 2].
    """
    longest = sizes.max(axis=1, keepdims=True).astype(np.int64)
    limits = np.minimum(longest, np.reshape(longer_side, (-1, 1)))
    return np.maximum(1, np.rint(sizes * limits / longest)).astype(np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class PhotoRows:
    """Photos that are decoded by row, and whose sizes are known before.

    Attributes:
        sizes: height and width of the N decoded photos in pixels, int64 [N, 2].
        photo: a graph function from a row, int64 scalar, to its photo, uint8 [h, w, 3].
    """

    sizes: np.ndarray
    photo: Callable[[tf.Tensor], tf.Tensor]

    def __len__(self) -> int:
        return len(self.sizes)

    @classmethod
    def of(cls, split: Split, longer_side: int) -> "PhotoRows":
        """Returns the photos of a split, their longer side at most `longer_side` pixels."""
        return cls(decoded_sizes(split.sizes, longer_side), _reader(split, longer_side))

    def select(self, rows: np.ndarray) -> "PhotoRows":
        """Returns chosen photos, int [M], in their order; rows may repeat."""
        chosen = tf.constant(rows, tf.int64)
        return PhotoRows(self.sizes[rows], lambda place: self.photo(chosen[place]))


def read_rows(split: Split, rows: np.ndarray, longer_side: int) -> tf.data.Dataset:
    """Reads and decodes chosen photos, in the order given, straight from their places in the shards.

    Args:
        split: the split.
        rows: int [M], rows of the split; may repeat.
        longer_side: pixels; see `decoding.decode_photo`.

    Returns:
        A dataset of (row int64 scalar, photo uint8 [h, w, 3]).
    """
    photo = _reader(split, longer_side)
    dataset = tf.data.Dataset.from_tensor_slices(np.asarray(rows, np.int64))
    return steady(dataset.map(lambda row: (row, photo(row)), num_parallel_calls=CORES))


def _reader(split: Split, longer_side: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a graph function from a row to its decoded photo, read from disk."""
    read = encoded_reader(split)
    return lambda row: decoding.decode_photo(read(row), longer_side)


def encoded_reader(split: Split) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a graph function from a row, int64 scalar, to its photo's file, string scalar, read from its place.

    Without Python, whose lock readers would wait for, and with the checksum that a record carries: in a graph,
    `tf.errors.DataLossError` says that bytes have changed, and `tf.errors.InvalidArgumentError` that the shard is cut.
    """
    paths, shard = tf.constant([str(path) for path in split.shards]), tf.constant(split.shard)
    start = tf.constant(split.offset - records.HEADER_BYTES, tf.int64)
    of_strings = {"output_types": [tf.string], "output_shapes": [tf.TensorShape([])]}

    def read(row: tf.Tensor) -> tf.Tensor:
        from_here = tf.raw_ops.TFRecordDatasetV2(
            filenames=paths[shard[row], tf.newaxis],
            compression_type="",
            buffer_size=tf.constant(0, tf.int64),  # reads as many bytes as the record has
            byte_offsets=start[row, tf.newaxis],
        )
        one = tf.raw_ops.TakeDataset(input_dataset=from_here, count=tf.constant(1, tf.int64), **of_strings)
        (serialized,) = tf.raw_ops.DatasetToSingleElement(dataset=one, **of_strings)
        return records.parse_record(serialized, ("image/encoded",))["image/encoded"]

    return read


class PhotoStore:
    """Decoded photos of a split by row.

    Photos are kept in memory as one array of bytes when all of them together stay below the limit, so that each is
    decoded once; otherwise each access reads and decodes its record. Both give the same pixels.

    Args:
        split: the split.
        longer_side: pixels of the decoded photos' longer side.
        cache_bytes: most memory for decoded photos; 0 keeps none.
        progress: called with an iterator over the photos while they are decoded for the cache.

    Attributes:
        sizes: heights and widths of the decoded photos in pixels, int64 [N, 2].
        cached: whether they are kept in memory.
    """

    def __init__(self, split: Split, longer_side: int, cache_bytes: int = 2 << 30, progress=iter):
        self.sizes = sizes = decoded_sizes(split.sizes, longer_side)
        self._starts = np.concatenate([[0], np.cumsum(sizes.prod(axis=1) * 3)]).astype(np.int64)
        self.cached = bool(self._starts[-1] <= cache_bytes)
        self._disk = _reader(split, longer_side)
        if self.cached:
            pixels = np.empty(self._starts[-1], np.uint8)
            for row, photo in progress(pipeline.decoded_photos(split, longer_side).as_numpy_iterator()):
                pixels[self._starts[row] : self._starts[row + 1]] = photo.ravel()
            self._pixels, self._offsets = tf.constant(pixels), tf.constant(self._starts)
            self._shapes = tf.constant(np.concatenate([sizes, np.full_like(sizes[:, :1], 3)], axis=1))

    def photo(self, row: tf.Tensor) -> tf.Tensor:
        """Returns one photo in a graph: int64 scalar -> uint8 [h, w, 3]."""
        if not self.cached:
            return self._disk(row)
        flat = self._pixels[self._offsets[row] : self._offsets[row + 1]]
        return tf.ensure_shape(tf.reshape(flat, self._shapes[row]), [None, None, 3])
