"""Triplet loss with semi-hard negatives found in the batch."""

import keras
from keras import ops

from tfretrieval.losses import distances, pairs

MARGIN = 0.2


def semi_hard_distances(found, other):
    """Returns, for each pair (i, j), the smallest distance of i to a non-match that is larger than that to j.

    Where there is none, the largest distance of i to a non-match. Rows are sorted instead of comparing all triplets,
    whose B^3 values would be 23 GB at FaceNet's batch of 1,800. Which non-match it is counts as constant; several that
    are exactly as far share the gradient evenly.

    Args:
        found: float32 [B, W], the distances.
        other: float32 [B, W], 1 for non-matching pairs, else 0.

    Returns:
        float32 [B, W].
    """
    fixed, (batch, width) = ops.stop_gradient(found), ops.shape(found)
    order = ops.argsort(fixed, axis=1)
    ascending = ops.take_along_axis(fixed, order, axis=1)
    steps = ops.cast(ascending[:, 1:] > ascending[:, :-1], "int32")
    tied = ops.concatenate([ops.zeros((batch, 1), "int32"), ops.cumsum(steps, axis=1)], axis=1)
    # Pairs of a row that are exactly as far make up a group; groups are numbered by distance.
    group = ops.take_along_axis(tied, ops.argsort(order, axis=1), axis=1)
    flat = ops.reshape(group + width * ops.arange(batch, dtype="int32")[:, None], (-1,))

    def group_sum(values):
        return ops.reshape(ops.segment_sum(ops.reshape(values, (-1,)), flat, batch * width), (batch, width))

    count = group_sum(other)
    mean = group_sum(found * other) / ops.maximum(count, 1.0)
    not_farther = ops.cast(ops.take_along_axis(ops.cumsum(count, axis=1), group, axis=1), "int32")
    non_matches = ops.argsort(ops.where(other > 0, fixed, float("inf")), axis=1)
    following = ops.take_along_axis(non_matches, ops.minimum(not_farther, width - 1), axis=1)
    outside = ops.take_along_axis(mean, ops.take_along_axis(group, following, axis=1), axis=1)
    exists = not_farther < ops.cast(ops.sum(other, axis=1, keepdims=True), "int32")
    return ops.where(exists, outside, pairs.masked_max(found, other)[:, None])


def batch_semi_hard_triplet(
    descriptors,
    labels,
    margin: float = MARGIN,
    distance_metric: str = "squared-L2",
    complete_only: bool = True,
    memory: pairs.Memory | None = None,
):
    """Triplet loss of every matching pair with its semi-hard negative.

    L = mean_{(a,p)} max(0, d(a,p) - d(a,n) + margin), n the non-match nearest to a among those farther than p, and
    the farthest non-match where none is farther than p.
    Source: Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015, whose distances are squared and whose margin is 0.2;
    the choice where none is farther is that of tensorflow-addons.

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        margin: wanted difference of the distances.
        distance_metric: one of `distances.METRICS`.
        complete_only: whether pairs count only with a non-match in the batch. Otherwise all count as in
            tensorflow-addons, where without a non-match d(a,n) is a's smallest distance (to itself).
        memory: earlier photos to compare with too.

    Returns:
        float32 scalar, the mean over the pairs that count; 0 when there are none.
    """
    found = distances.all_pairs(descriptors, distance_metric, memory)
    matching, other = pairs.pair_masks(labels, memory)
    losses = ops.maximum(found - semi_hard_distances(found, other) + margin, 0.0)
    if complete_only:
        matching = matching * ops.max(other, axis=1, keepdims=True)
    return pairs.mean_over(losses, matching)


@keras.saving.register_keras_serializable(package="tfretrieval")
class BatchSemiHardTriplet(distances.MetricLoss):
    """Keras loss of `batch_semi_hard_triplet`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    Args:
        margin: see `batch_semi_hard_triplet`.
        distance_metric: see `batch_semi_hard_triplet`.
        complete_only: see `batch_semi_hard_triplet`.
    """

    def __init__(
        self,
        margin: float = MARGIN,
        distance_metric: str = "squared-L2",
        complete_only: bool = True,
        name: str = "batch_semi_hard_triplet",
        **kwargs,
    ):
        super().__init__(distance_metric, name=name, **kwargs)
        self.margin, self.complete_only = margin, complete_only

    def call(self, y_true, y_pred, memory: pairs.Memory | None = None):
        """Returns the batch's loss, float32 scalar."""
        return batch_semi_hard_triplet(y_pred, y_true, self.margin, self.distance_metric, self.complete_only, memory)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "margin": self.margin, "complete_only": self.complete_only}
