"""Random access to decoded photos, which tuples and balanced batches need: from memory where they fit, or disk."""

import numpy as np
import tensorflow as tf

from tfretrieval.data import decoding, pipeline, records
from tfretrieval.data.parallel import CORES, steady
from tfretrieval.data.record_set import Split


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


def _reader(split: Split, longer_side: int):
    """Returns a graph function from a row to its decoded photo, read from disk."""

    def decode(row: tf.Tensor) -> tf.Tensor:
        serialized = tf.numpy_function(split.read, [row], tf.string)
        encoded = records.parse_record(tf.ensure_shape(serialized, []), ("image/encoded",))["image/encoded"]
        return decoding.decode_photo(encoded, longer_side)

    return decode


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
        self.sizes = sizes = _decoded_sizes(split.sizes, longer_side)
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


def _decoded_sizes(sizes: np.ndarray, longer_side: int) -> np.ndarray:
    """Returns the sizes that `decoding.target_size` gives photos of these sizes: int [N, 2] -> int64 [N, 2]."""
    longest = sizes.max(axis=1, keepdims=True).astype(np.int64)
    return np.maximum(1, np.rint(sizes * np.minimum(longest, longer_side) / longest)).astype(np.int64)
