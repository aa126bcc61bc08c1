"""Triplet losses with a soft margin, over mined tuples and over the hardest triplets of a batch."""

import keras
from keras import ops

from tfretrieval.losses import distances, pairs
from tfretrieval.losses.triplet import hardest_gaps, tuple_gaps


def tuple_soft_triplet(descriptors, distance_metric: str = "L2"):
    """Soft-margin triplet loss summed over the negatives of each tuple: sum_n log(1 + exp(d(q,p) - d(q,n))).

    Source: the soft margin of Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification",
    2017; it keeps pulling where the margin of `tuple_triplet` is satisfied.

    Args:
        descriptors: [T, 2 + N, D], L2-normalised.
        distance_metric: d, one of `distances.METRICS`.

    Returns:
        float32 [T].
    """
    return ops.sum(ops.softplus(tuple_gaps(descriptors, distance_metric)), axis=1)


def batch_soft_triplet(
    descriptors, labels, distance_metric: str = "L2", complete_only: bool = True, memory: pairs.Memory | None = None
):
    """Soft-margin triplet loss of each photo's farthest match and nearest non-match in the batch.

    Source: Hermans, Beyer, Leibe, 2017 (batch hard with soft margin).

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        distance_metric: one of `distances.METRICS`.
        complete_only: see `triplet.hardest_gaps`.
        memory: earlier photos to compare with too.

    Returns:
        float32 scalar, the mean over photos that count.
    """
    gaps, counted = hardest_gaps(descriptors, labels, distance_metric, complete_only, memory)
    return pairs.mean_over(ops.softplus(gaps), counted)


@keras.saving.register_keras_serializable(package="tfretrieval")
class TupleSoftTriplet(distances.MetricLoss):
    """Keras loss of `tuple_soft_triplet`; `y_true` is ignored, `y_pred` is [T, 2 + N, D]; mean over tuples.

    Args:
        distance_metric: see `tuple_soft_triplet`.
    """

    def __init__(self, distance_metric: str = "L2", name: str = "soft_triplet", **kwargs):
        super().__init__(distance_metric, name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Returns the mean over tuples, float32 scalar, which Keras does not divide by a number of replicas."""
        del y_true
        return ops.mean(tuple_soft_triplet(y_pred, self.distance_metric))


@keras.saving.register_keras_serializable(package="tfretrieval")
class BatchSoftTriplet(distances.MetricLoss):
    """Keras loss of `batch_soft_triplet`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    Args:
        distance_metric: see `batch_soft_triplet`.
        complete_only: see `triplet.hardest_gaps`.
    """

    def __init__(
        self, distance_metric: str = "L2", complete_only: bool = True, name: str = "batch_soft_triplet", **kwargs
    ):
        super().__init__(distance_metric, name=name, **kwargs)
        self.complete_only = complete_only

    def call(self, y_true, y_pred, memory: pairs.Memory | None = None):
        """Returns the batch's loss, float32 scalar."""
        return batch_soft_triplet(y_pred, y_true, self.distance_metric, self.complete_only, memory)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "complete_only": self.complete_only}
