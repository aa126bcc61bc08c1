"""What pair losses share: distances with safe gradients, and which pairs of a batch match.

An in-batch loss compares each photo (a row) with all others (the columns). Its function ends in `memory=None` and hands
it to the helpers here: with a `Memory`, the columns are the batch followed by what the memory holds, and
`CrossBatchMemory` works around the loss.
"""

from typing import NamedTuple

from keras import ops

# Keeps the root's gradient finite at identical descriptors; moves no distance by more than 1e-6.
_EPSILON = 1e-12


class Memory(NamedTuple):
    """Descriptors of earlier batches.

    Attributes:
        descriptors: float32 [M, D], constants.
        labels: int [M]; -1 where there is no descriptor yet.
    """

    descriptors: object
    labels: object


def root(squared):
    """Returns the square root, with gradient 0 instead of infinity at 0.

    Args:
        squared: float32, any shape; values below 1e-12 count as 0.

    Returns:
        float32, same shape.
    """
    positive = squared > _EPSILON
    return ops.where(positive, ops.sqrt(ops.where(positive, squared, 1.0)), 0.0)


def squared_distances(first, second):
    """Returns squared Euclidean distances of paired rows: [..., D] and [..., D] -> float32 [...]."""
    difference = ops.cast(first, "float32") - ops.cast(second, "float32")
    return ops.sum(ops.square(difference), axis=-1)


def tuple_distances(descriptors):
    """Returns squared distances of each tuple's query to its other photos.

    Args:
        descriptors: [T, 2 + N, D]: query, positive, N negatives.

    Returns:
        float32 [T] to the positive and float32 [T, N] to the negatives.
    """
    squared = squared_distances(descriptors[:, :1], descriptors[:, 1:])
    return squared[:, 0], squared[:, 1:]


def columns(descriptors, memory: Memory | None = None):
    """Returns what each photo is compared with: the batch, then the memory: [B, D] -> float32 [B + M, D]."""
    descriptors = ops.cast(descriptors, "float32")
    if memory is None:
        return descriptors
    return ops.concatenate([descriptors, ops.stop_gradient(ops.cast(memory.descriptors, "float32"))])


def column_labels(labels, memory: Memory | None = None):
    """Returns the instances of `columns`, and which columns hold a descriptor.

    Args:
        labels: int [B], the instances; of any sign.
        memory: whose empty places hold no descriptor.

    Returns:
        The labels [B + M], and float32 [B + M], 0 or 1.
    """
    labels = ops.reshape(ops.convert_to_tensor(labels), (-1,))
    present = ops.ones_like(labels, dtype="float32")
    if memory is None:
        return labels, present
    kept = ops.cast(memory.labels, labels.dtype)
    return ops.concatenate([labels, kept]), ops.concatenate([present, ops.cast(kept >= 0, "float32")])


def similarities(descriptors, memory: Memory | None = None):
    """Returns dot products of a batch with itself and the memory: [B, D] -> float32 [B, B + M]."""
    return ops.matmul(ops.cast(descriptors, "float32"), ops.transpose(columns(descriptors, memory)))


def all_squared_distances(descriptors, memory: Memory | None = None):
    """Returns squared distances of unit descriptors, 2 - 2 cos: [B, D] -> float32 [B, B + M], >= 0."""
    return ops.maximum(2.0 - 2.0 * similarities(descriptors, memory), 0.0)


def pair_masks(labels, memory: Memory | None = None):
    """Returns which pairs of a batch, and of a batch with a memory, match and which do not.

    Args:
        labels: int [B], the instances.
        memory: compared with too; a place without a descriptor is in no pair.

    Returns:
        float32 [B, B + M] matching (same label, other photo) and float32 [B, B + M] non-matching (other label), 0 or 1.
    """
    labels = ops.reshape(ops.convert_to_tensor(labels), (-1,))
    theirs, present = column_labels(labels, memory)
    same = ops.cast(ops.equal(labels[:, None], theirs[None, :]), "float32")
    rows, places = ops.arange(ops.shape(labels)[0]), ops.arange(ops.shape(theirs)[0])
    itself = ops.cast(ops.equal(rows[:, None], places[None, :]), "float32")
    return (same - itself) * present, (1.0 - same) * present


def mean_over(values, mask):
    """Returns the mean of `values` where the 0/1 `mask` is set, 0 where it is nowhere set."""
    return ops.sum(values * mask) / ops.maximum(ops.sum(mask), 1.0)


def masked_max(values, mask):
    """Returns each row's largest value where the 0/1 `mask` is set, the row's smallest value where it is nowhere set.

    Args:
        values: float32 [B, W].
        mask: float32 [B, W], 0 or 1.

    Returns:
        float32 [B].
    """
    least = ops.min(values, axis=1, keepdims=True)
    return (ops.max((values - least) * mask, axis=1, keepdims=True) + least)[:, 0]


def masked_min(values, mask):
    """Returns each row's smallest value where `mask` is set, its largest where it is nowhere set; see `masked_max`."""
    return -masked_max(-values, mask)


def masked_logsumexp(values, mask):
    """Returns log(sum(exp(values))) over each row where the 0/1 `mask` is set: float32 [B]; -1e9 for an empty row."""
    return ops.logsumexp(ops.where(mask > 0, values, -1e9), axis=1)
