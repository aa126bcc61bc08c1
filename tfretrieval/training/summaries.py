"""What TensorBoard shows: scalars, and strips of photos."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from tfretrieval.data import records
from tfretrieval.data.record_set import Split

_THUMBNAIL = 112
_FRAMES = {"query": (90, 90, 90), "match": (30, 150, 60), "other": (200, 40, 40)}


class Summaries:
    """Writes TensorBoard events of one run.

    Args:
        directory: where the event files go; an earlier session's files stay beside the new one. None writes nothing.
    """

    def __init__(self, directory: Path | None):
        make = tf.summary.create_noop_writer
        self._writer = make() if directory is None else tf.summary.create_file_writer(str(directory))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one point of each named curve."""
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)

    def strips(self, step: int, name: str, split: Split, strips: Sequence[Sequence[tuple[int, str]]]) -> None:
        """Writes strips of photos as pictures.

        Args:
            step: the training step.
            name: title of the pictures.
            split: the split that the rows lie in.
            strips: for each strip, (row, kind) pairs; kind is "query", "match" or "other" and gives the frame's colour.
        """
        if not strips:
            return
        pictures = [np.concatenate([_thumbnail(split, row, kind) for row, kind in strip], axis=1) for strip in strips]
        with self._writer.as_default():
            tf.summary.image(name, np.stack(pictures), step=step, max_outputs=len(pictures))

    def flush(self) -> None:
        """Makes sure that everything written is on disk."""
        self._writer.flush()


def _thumbnail(split: Split, row: int, kind: str) -> np.ndarray:
    """Returns a framed square picture of a photo, uint8 [128, 128, 3]."""
    photo = Image.open(io.BytesIO(records.decode_record(split.read(row)).photo.encoded)).convert("RGB")
    square = ImageOps.pad(photo, (_THUMBNAIL, _THUMBNAIL), color=(255, 255, 255))
    return np.asarray(ImageOps.expand(square, border=8, fill=_FRAMES[kind]))


def hardest_tuples(plan: np.ndarray, negatives: int, count: int = 4) -> list[list[tuple[int, str]]]:
    """Returns strips of an epoch's first tuples: query, positive, negatives from the hardest on.

    Args:
        plan: int [steps, B] of a tuple training.
        negatives: negatives in each tuple.
        count: strips wanted.
    """
    tuples = plan.reshape(-1, 2 + negatives)[:count]
    return [[(row[0], "query"), (row[1], "match"), *((negative, "other") for negative in row[2:])] for row in tuples]


def pooling_exponents(model: keras.Model) -> dict[str, float]:
    """Returns the mean of each GeM exponent of a model by its layer's name."""
    return {f"p/{weight.path}": float(np.mean(weight.numpy())) for weight in model.weights if weight.name == "p"}
