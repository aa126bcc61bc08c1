"""What list-wise losses share: the mean over photos of a loss of each one's ranked list, in bounded memory."""

import math
from collections.abc import Callable

import keras
from keras import ops

from tfretrieval.losses import pairs

# Numbers in the largest array of a chunk: 16 MiB in float32.
BUDGET = 2**22
_ROWS_OF_UNKNOWN = 16


def mean_over_lists(list_loss: Callable, descriptors, labels, memory: pairs.Memory | None, width: int | None):
    """Returns the mean over photos with a match of the loss of each photo's list: all other photos, by similarity.

    The lists are taken in chunks of photos, one after the other. Of a chunk nothing is kept but its loss: the backward
    pass computes it again. So no more is held than a few numbers for each pair, and one chunk.

    Args:
        list_loss: of similarities [R, C], matching [R, C] and non-matching [R, C], 0 or 1 -> float32 [R].
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        memory: earlier photos that are in the lists too.
        width: numbers that `list_loss` needs at once for each of the R * C pairs; None for C of them.

    Returns:
        float32 scalar, 0 when no photo has a match.
    """
    similarity = pairs.similarities(descriptors, memory)
    labels = ops.reshape(ops.convert_to_tensor(labels), (-1,))
    theirs, present = pairs.column_labels(labels, memory)
    count, length = ops.shape(similarity)
    places = ops.arange(length)

    def losses(similarity, own_labels, own_places):
        same = ops.cast(ops.equal(own_labels[:, None], theirs[None, :]), "float32") * present
        itself = ops.cast(ops.equal(own_places[:, None], places[None, :]), "float32")
        matching, other = same * (1.0 - itself), present - same
        counted = ops.cast(ops.any(matching > 0, axis=1) & (own_places >= 0), "float32")
        return counted * list_loss(similarity, matching, other), counted

    size = _rows_at_once(count, length, width)
    if isinstance(count, int) and count <= size:
        found, counted = losses(similarity, labels, places[:count])
    else:
        chunks = tuple(_in_chunks(*values, size) for values in ((similarity, 0.0), (labels, 0), (places[:count], -1)))
        found, counted = ops.map(lambda c: keras.remat(lambda rows: losses(rows, c[1], c[2]))(c[0]), chunks)
    return ops.sum(found) / ops.maximum(ops.sum(counted), 1.0)


def _rows_at_once(count, length, width: int | None) -> int:
    if not (isinstance(count, int) and isinstance(length, int)):
        return _ROWS_OF_UNKNOWN
    rows = max(1, BUDGET // (length * (width or length)))
    return math.ceil(count / math.ceil(count / rows))  # of about equal size, so that little is padded


def _in_chunks(values, filler, size: int):
    """Returns rows as [chunks, size, ...], filled up at the end."""
    shape = ops.shape(values)
    values = ops.pad(values, [[0, -shape[0] % size]] + [[0, 0]] * (len(shape) - 1), constant_values=filler)
    return ops.reshape(values, (-1, size, *shape[1:]))
