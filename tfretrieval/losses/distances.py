"""Distances between descriptors of any length, under the names that tensorflow-addons gave them."""

import keras
from keras import ops

from tfretrieval.losses import pairs

METRICS = ("L2", "squared-L2", "angular")


def check(metric: str) -> str:
    """Returns `metric`.

    Raises:
        ValueError: it is none of `METRICS`.
    """
    if metric not in METRICS:
        raise ValueError(f"distance_metric={metric!r} is unknown; one of {', '.join(METRICS)} is wanted.")
    return metric


def paired(first, second, metric: str = "L2"):
    """Returns the distances of paired rows.

    Args:
        first: [..., D], of any length.
        second: [..., D].
        metric: "L2" for the Euclidean distance, "squared-L2" for its square, "angular" for 1 - cosine, in [0, 2].

    Returns:
        float32 [...].
    """
    first, second = ops.cast(first, "float32"), ops.cast(second, "float32")
    if metric == "angular":
        return pairs.squared_distances(ops.normalize(first, axis=-1), ops.normalize(second, axis=-1)) / 2
    squared = pairs.squared_distances(first, second)
    return squared if metric == "squared-L2" else pairs.root(squared)


def all_pairs(descriptors, metric: str = "L2", memory: pairs.Memory | None = None):
    """Returns the distances of all pairs in a batch, and of a batch with a memory.

    Args:
        descriptors: [B, D], of any length.
        metric: see `paired`.
        memory: compared with too.

    Returns:
        float32 [B, B + M], >= 0, with a gradient of 0 between identical descriptors.
    """
    rows, columns = ops.cast(descriptors, "float32"), pairs.columns(descriptors, memory)
    if metric == "angular":
        rows, columns = ops.normalize(rows, axis=-1), ops.normalize(columns, axis=-1)
        return ops.maximum(1.0 - ops.matmul(rows, ops.transpose(columns)), 0.0)
    lengths, theirs = ops.sum(ops.square(rows), axis=1), ops.sum(ops.square(columns), axis=1)
    products = ops.matmul(rows, ops.transpose(columns))
    squared = ops.maximum(lengths[:, None] + theirs[None, :] - 2.0 * products, 0.0)
    # Rounding leaves a photo a little away from itself.
    other_photo = ops.arange(ops.shape(rows)[0])[:, None] != ops.arange(ops.shape(columns)[0])[None, :]
    squared = squared * ops.cast(other_photo, "float32")
    return squared if metric == "squared-L2" else pairs.root(squared)


class MetricLoss(keras.losses.Loss):
    """A loss with a distance metric; `get_config` names it.

    Args:
        distance_metric: one of `METRICS`.
    """

    def __init__(self, distance_metric: str, **kwargs):
        super().__init__(**kwargs)
        self.distance_metric = check(distance_metric)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "distance_metric": self.distance_metric}
