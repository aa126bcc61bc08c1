"""Batches of decoded photos, read ahead of whoever takes them; photos that cannot be read are told, with the reason."""

import contextlib
import dataclasses
import queue
import re
import threading
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfretrieval.data.batch_plan import BatchPlan
from tfretrieval.data.parallel import CORES, steady
from tfretrieval.data.photo_store import PhotoRows

# Beside the one that is taken, so many wait, and one more is put together.
_BATCHES_AHEAD = 1
_POLL_SECONDS = 0.2
_NODE = re.compile(
    r"\{\{[^}]*\}\}\s*|^Error in user-defined function passed to \S+ transformation with iterator: \S+\s*"
)


@dataclasses.dataclass(frozen=True, eq=False)
class PhotoBatch:
    """Photos of one shape.

    Attributes:
        rows: int64 [n].
        photos: uint8 [n, h, w, 3]; n may be 0 where all were rejected.
        rejected: the reason by the row of each photo of the batch that could not be read.
    """

    rows: np.ndarray
    photos: np.ndarray
    rejected: dict[int, str]


def read_batches(photos: PhotoRows, batches: BatchPlan) -> Iterator[PhotoBatch]:
    """Reads and decodes photos on all cores, and puts them into batches in a thread of its own.

    Three batches are held at most: the one taken, one that waits and one that is put together.

    Args:
        photos: the photos.
        batches: which photos make each, of one shape.

    Yields:
        The batches, in the order given.
    """
    if not len(batches):
        return
    ready: queue.Queue = queue.Queue(_BATCHES_AHEAD)
    stopped = threading.Event()
    worker = threading.Thread(target=_fill, args=(ready, stopped, photos, batches), daemon=True)
    worker.start()
    try:
        for _ in batches:
            found = ready.get()
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        stopped.set()
        worker.join()


def _fill(ready: queue.Queue, stopped: threading.Event, photos: PhotoRows, batches: BatchPlan) -> None:
    """Puts batches into a queue, and an error where one ends the reading."""

    def put(item: PhotoBatch | BaseException) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=_POLL_SECONDS)
                return

    try:
        decoded = tf.data.Dataset.from_tensor_slices(batches.rows)
        decoded = iter(steady(decoded.map(photos.photo, num_parallel_calls=CORES).prefetch(CORES)))
        for rows in batches:
            put(_batch(decoded, rows, photos.sizes[rows[0]]))
            if stopped.is_set():
                return
    except BaseException as error:  # noqa: BLE001 - goes on to who takes the batches
        put(error)


def _batch(decoded: Iterator[tf.Tensor], rows: np.ndarray, size: np.ndarray) -> PhotoBatch:
    """Takes the next photos for a batch; an error of one is an element of its own, and the next follow."""
    pixels, read, rejected = np.empty((len(rows), *size, 3), np.uint8), [], {}
    for row in rows.tolist():
        try:
            photo = next(decoded).numpy()
        except (tf.errors.InvalidArgumentError, tf.errors.DataLossError, tf.errors.NotFoundError) as error:
            rejected[row] = reason(error)
            continue
        if photo.shape[:2] == tuple(size):
            pixels[len(read)] = photo
            read.append(row)
        else:
            wanted, found = (" x ".join(map(str, shape)) for shape in (size.tolist(), photo.shape[:2]))
            rejected[row] = f"it is decoded to {found} pixels, and by the records' index to {wanted}"
    return PhotoBatch(np.array(read, np.int64), pixels[: len(read)], rejected)


def reason(error: tf.errors.OpError) -> str:
    """Returns what TensorFlow says is wrong with a photo, on one line and without the names of nodes."""
    lines = (_NODE.sub("", _NODE.sub("", line.strip())).strip() for line in error.message.splitlines())
    return next((line for line in lines if line and not line.startswith("[[")), type(error).__name__)
