"""Extraction: a network over the photos of a split, in batches of equal shape, to one matrix of descriptors."""

import collections
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf

from tfretrieval.data.batch_plan import CPU_PIXELS, GPU_PIXELS, BatchPlan, plan_batches
from tfretrieval.data.photo_batches import PhotoBatch, read_batches
from tfretrieval.data.photo_store import PhotoRows
from tfretrieval.data.record_set import Split
from tfretrieval.errors import InputError
from tfretrieval.sharded_descriptors import Part


class Extractor:
    """Runs one descriptor network over photos of any sizes; traces its graph once.

    While the network computes, the next photos are read, decoded and resized. What runs together follows from the
    photos' sizes alone (`plan_batches`), so that the same photos give the same bytes at every start.

    Args:
        model: a network [n, h, w, 3] -> [n, D].
        longer_side: pixels that photos' longer sides are resized to (never enlarged).
        batch_size: most photos of one shape run together.
        batch_pixels: most pixels run together; 0 for 2 million on CPUs and 33 million where there are GPUs.
        copies: the network by the name of each device that shall run it, which share the batches; where not given,
            `model` runs where TensorFlow puts it.

    Attributes:
        busy_seconds: how long the devices computed in all calls together, by their mean.
    """

    def __init__(
        self,
        model: keras.Model,
        longer_side: int,
        batch_size: int = 32,
        batch_pixels: int = 0,
        copies: Mapping[str, Callable] | None = None,
    ):
        self.longer_side, self.batch_size = longer_side, batch_size
        self.batch_pixels = batch_pixels or default_batch_pixels()
        self.dimension = int(model.output_shape[-1])
        self._forward = [_graph(copy, device) for device, copy in (copies or {None: model}).items()]
        self.busy_seconds = 0.0

    def __call__(self, split: Split, rows: np.ndarray | None = None, progress: Callable | None = None) -> np.ndarray:
        """Extracts descriptors.

        Args:
            split: the split.
            rows: int [M], the photos wanted, all by default; may repeat.
            progress: makes a bar with an `update(n)` method from the number of photos (`console.progress`, say).

        Returns:
            float32 [M, D], in the order of `rows`.

        Raises:
            InputError: a photo cannot be read.
        """
        photos = PhotoRows.of(split, self.longer_side)
        if rows is not None:
            photos = photos.select(rows)
        ids = split.ids if rows is None else [split.ids[row] for row in rows]
        return self.describe(photos, ids, progress)

    def describe(self, photos: PhotoRows, ids: Sequence[str], progress: Callable | None = None) -> np.ndarray:
        """Describes photos that are read by row.

        Args:
            photos: M photos.
            ids: their names, for errors.
            progress: see `__call__`.

        Returns:
            float32 [M, D], in the order of the rows.

        Raises:
            InputError: a photo cannot be read.
        """
        bar = progress(len(photos)) if progress else None
        (found,) = self.parts(photos, [range(len(photos))], bar.update if bar is not None else None)
        if bar is not None:
            bar.close()
        if found.rejected:
            row, why = min(found.rejected.items())
            raise InputError(f"the photo {ids[row]!r} cannot be read: {why}; make the records again.")
        return found.vectors

    def parts(
        self, photos: PhotoRows, parts: Sequence[range], update: Callable[[int], None] | None = None
    ) -> Iterator[Part]:
        """Describes parts of photos one after the other, reading ahead from one into the next.

        A part is given before the network begins with the next one.

        Args:
            photos: N photos.
            parts: rows of each part.
            update: called with numbers of photos as they are done.

        Yields:
            Each part's descriptors.
        """
        plans = [self.plan(photos, part) for part in parts]
        batches = read_batches(photos, BatchPlan.join(plans))
        with contextlib.closing(batches), ThreadPoolExecutor(len(self._forward)) as pool:
            for part, plan in zip(parts, plans, strict=True):
                yield self._gather(part, itertools.islice(batches, len(plan)), pool, update or (lambda _: None))

    def plan(self, photos: PhotoRows, part: range) -> BatchPlan:
        """Returns which photos of a part run together."""
        sizes = photos.sizes[part.start : part.stop]
        return BatchPlan.of(part.start + rows for rows in plan_batches(sizes, self.batch_size, self.batch_pixels))

    def run(self, photos: np.ndarray) -> np.ndarray:
        """Describes a batch on the first device: uint8 [n, h, w, 3] -> float32 [n, D]."""
        return self._forward[0](photos).numpy()

    def _gather(
        self, part: range, batches: Iterator[PhotoBatch], pool: ThreadPoolExecutor, update: Callable[[int], None]
    ) -> Part:
        """Runs batches on the devices, each on the one that has been free for longest, and puts rows in order."""
        vectors, there = np.zeros((len(part), self.dimension), np.float32), np.ones(len(part), bool)
        rejected: dict[int, str] = {}
        free, running = collections.deque(self._forward), collections.deque()

        def finish() -> None:
            forward, batch, future = running.popleft()
            found, seconds = future.result()
            vectors[batch.rows - part.start] = found
            self.busy_seconds += seconds / len(self._forward)
            free.append(forward)
            update(len(batch.rows))

        for batch in batches:
            rejected |= batch.rejected
            update(len(batch.rejected))
            if not len(batch.rows):
                continue
            if not free:
                finish()
            forward = free.popleft()
            running.append((forward, batch, pool.submit(_timed, forward, batch.photos)))
        while running:
            finish()
        if rejected:
            there[np.array(list(rejected)) - part.start] = False
            vectors = vectors[there]
        return Part(vectors, rejected)


def default_batch_pixels() -> int:
    """Returns the most pixels that run together where nobody says how many: see `batch_plan`."""
    return GPU_PIXELS if tf.config.list_logical_devices("GPU") else CPU_PIXELS


def _graph(model: Callable, device: str | None) -> Callable[[np.ndarray], tf.Tensor]:
    """Returns photos uint8 [n, h, w, 3] -> float32 [n, D], on a device."""
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
    forward = tf.function(lambda photos: model(photos, training=False), input_signature=signature)

    def run(photos: np.ndarray) -> tf.Tensor:
        with tf.device(device):
            return forward(tf.constant(photos))

    return run


def _timed(forward: Callable, photos: np.ndarray) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    found = forward(photos).numpy()
    return found, time.perf_counter() - start
