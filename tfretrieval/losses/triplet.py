"""Triplet losses on squared distances, over mined tuples and over the hardest triplets of a batch."""

import keras
from keras import ops

from tfretrieval.losses import pairs

MARGIN = 0.5


def tuple_triplet(descriptors, margin: float = MARGIN):
    """Triplet loss summed over the negatives of each tuple: sum_n max(0, d(q,p)^2 - d(q,n)^2 + margin).

    Source: Radenovic, Tolias, Chum, TPAMI 2018, and its code, whose margin for whitened networks is 0.5.

    Args:
        descriptors: [T, 2 + N, D], L2-normalised.
        margin: wanted difference of the squared distances, in (0, 4].

    Returns:
        float32 [T].
    """
    positive, negatives = pairs.tuple_distances(descriptors)
    return ops.sum(ops.maximum(positive[:, None] - negatives + margin, 0.0), axis=1)


def batch_hard_triplet(descriptors, labels, margin: float = MARGIN):
    """Triplet loss of each photo's farthest match and nearest non-match in the batch, on squared distances.

    Source: Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017 (batch hard).

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        margin: wanted difference of the squared distances.

    Returns:
        float32 scalar, the mean over photos that have a match and a non-match in the batch.
    """
    squared = pairs.all_squared_distances(descriptors)
    matching, other = pairs.pair_masks(labels)
    farthest = ops.max(squared * matching, axis=1)
    nearest = ops.min(squared + 4.0 * (1.0 - other), axis=1)  # 4 is the largest squared distance of unit vectors
    valid = ops.max(matching, axis=1) * ops.max(other, axis=1)
    return pairs.mean_over(ops.maximum(farthest - nearest + margin, 0.0), valid)


@keras.saving.register_keras_serializable(package="tfretrieval")
class TupleTriplet(keras.losses.Loss):
    """Keras loss of `tuple_triplet`; `y_true` is ignored, `y_pred` is [T, 2 + N, D]; mean over tuples.

    Args:
        margin: see `tuple_triplet`.
    """

    def __init__(self, margin: float = MARGIN, name: str = "triplet", **kwargs):
        super().__init__(name=name, **kwargs)
        self.margin = margin

    def call(self, y_true, y_pred):
        """Returns the loss of each tuple, float32 [T]."""
        del y_true
        return tuple_triplet(y_pred, self.margin)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable(package="tfretrieval")
class BatchHardTriplet(keras.losses.Loss):
    """Keras loss of `batch_hard_triplet`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    Args:
        margin: see `batch_hard_triplet`.
    """

    def __init__(self, margin: float = MARGIN, name: str = "batch_hard_triplet", **kwargs):
        super().__init__(name=name, **kwargs)
        self.margin = margin

    def call(self, y_true, y_pred):
        """Returns the batch's loss, float32 scalar."""
        return batch_hard_triplet(y_pred, y_true, self.margin)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "margin": self.margin}
