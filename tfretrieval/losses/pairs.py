"""What pair losses share: distances with safe gradients, and which pairs of a batch match."""

from keras import ops

# Keeps the root's gradient finite at identical descriptors; moves no distance by more than 1e-6.
_EPSILON = 1e-12


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


def similarities(descriptors):
    """Returns dot products of all pairs in a batch: [B, D] -> float32 [B, B]."""
    descriptors = ops.cast(descriptors, "float32")
    return ops.matmul(descriptors, ops.transpose(descriptors))


def all_squared_distances(descriptors):
    """Returns squared distances of all pairs of unit descriptors, 2 - 2 cos: [B, D] -> float32 [B, B], >= 0."""
    return ops.maximum(2.0 - 2.0 * similarities(descriptors), 0.0)


def pair_masks(labels):
    """Returns which pairs of a batch match and which do not.

    Args:
        labels: int [B], the instances.

    Returns:
        float32 [B, B] matching (same label, other photo) and float32 [B, B] non-matching (other label), 0 or 1.
    """
    labels = ops.reshape(labels, (-1,))
    same = ops.cast(ops.equal(labels[:, None], labels[None, :]), "float32")
    return same - ops.eye(ops.shape(labels)[0], dtype="float32"), 1.0 - same


def mean_over(values, mask):
    """Returns the mean of `values` where the 0/1 `mask` is set, 0 where it is nowhere set."""
    return ops.sum(values * mask) / ops.maximum(ops.sum(mask), 1.0)
