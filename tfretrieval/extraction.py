"""Extraction: a network over the photos of a split, in batches of equal shape, to one matrix of descriptors."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfretrieval.data import photo_store, pipeline
from tfretrieval.data.record_set import Split


class Extractor:
    """Runs one descriptor network over photos of any sizes; traces its graph once.

    Args:
        model: a network [n, h, w, 3] -> [n, D].
        longer_side: pixels that photos' longer sides are resized to (never enlarged).
        batch_size: most photos of one shape run together.
    """

    def __init__(self, model: keras.Model, longer_side: int, batch_size: int = 32):
        self.longer_side, self.batch_size = longer_side, batch_size
        self.dimension = int(model.output_shape[-1])
        signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
        self._forward = tf.function(lambda photos: model(photos, training=False), input_signature=signature)

    def __call__(self, split: Split, rows: np.ndarray | None = None, progress: Callable | None = None) -> np.ndarray:
        """Extracts descriptors.

        Args:
            split: the split.
            rows: int [M], the photos wanted, all by default.
            progress: makes a bar with an `update(n)` method from the number of photos (`console.progress`, say).

        Returns:
            float32 [M, D], in the order of `rows`.
        """
        whole = rows is None
        photos = (
            pipeline.decoded_photos(split, self.longer_side)
            if whole
            else photo_store.read_rows(split, rows, self.longer_side).enumerate().map(lambda at, photo: (at, photo[1]))
        )
        return self.describe(photos, len(split) if whole else len(rows), progress)

    def describe(self, photos: tf.data.Dataset, count: int, progress: Callable | None = None) -> np.ndarray:
        """Describes decoded photos.

        Args:
            photos: a dataset of (place int64 scalar, photo uint8 [h, w, 3]), each place from 0 to `count` - 1 once.
            count: M, how many they are.
            progress: see `__call__`.

        Returns:
            float32 [M, D], in the order of the places.
        """
        vectors = np.empty((count, self.dimension), np.float32)
        bar = progress(len(vectors)) if progress else None
        for places, batch in pipeline.batches_of_equal_shape(photos, self.batch_size):
            vectors[places.numpy()] = self._forward(batch).numpy()
            if bar is not None:
                bar.update(len(places))
        if bar is not None:
            bar.close()
        return vectors
