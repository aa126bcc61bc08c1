"""Ranked list loss."""

import keras
from keras import ops

from tfretrieval.losses import distances, pairs

MARGIN, BOUNDARY, SHARPNESS, BALANCE = 0.4, 1.2, 10.0, 0.5


def weighted_violation(violation, sharpness: float):
    """Returns each row's mean of the values above 0, weighted by exp(sharpness * value), the weights constant.

    Args:
        violation: float32 [B, W], >= 0.
        sharpness: 0 for the plain mean.

    Returns:
        float32 [B]; 0 for a row without a value above 0.
    """
    fixed = ops.stop_gradient(violation)
    weights = ops.where(fixed > 0, ops.exp(sharpness * (fixed - ops.max(fixed, axis=1, keepdims=True))), 0.0)
    total = ops.sum(weights, axis=1)
    return ops.sum(weights * violation, axis=1) / ops.where(total > 0, total, 1.0)


def ranked_list(
    descriptors,
    labels,
    margin: float = MARGIN,
    boundary: float = BOUNDARY,
    sharpness: float = SHARPNESS,
    balance: float = BALANCE,
    memory: pairs.Memory | None = None,
):
    """Ranked list loss: matches within one radius of a photo, non-matches beyond a larger one.

    L_i = (1 - balance) mean_{p: d_ip > boundary - margin} (d_ip - boundary + margin)
        + balance sum_{n: d_in < boundary} w_n (boundary - d_in) / sum w_n,   w_n = exp(sharpness (boundary - d_in)).
    Source: Wang, Hua, Kodirov, Hu, Garnier, Robertson, "Ranked List Loss for Deep Metric Learning", CVPR 2019. The
    weights are constant in the gradient.

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        margin: between the two radii, in (0, boundary].
        boundary: alpha, the radius that non-matches are pushed out of, in (0, 2].
        sharpness: T_n, how much near non-matches outweigh far ones; 0 for none.
        balance: lambda, share of the non-matches, in [0, 1].
        memory: earlier photos to compare with too.

    Returns:
        float32 scalar, the mean over photos.
    """
    found = distances.all_pairs(descriptors, memory=memory)
    matching, other = pairs.pair_masks(labels, memory)
    pull = weighted_violation(ops.maximum(found - boundary + margin, 0.0) * matching, 0.0)
    push = weighted_violation(ops.maximum(boundary - found, 0.0) * other, sharpness)
    return ops.mean((1.0 - balance) * pull + balance * push)


@keras.saving.register_keras_serializable(package="tfretrieval")
class RankedList(keras.losses.Loss):
    """Keras loss of `ranked_list`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    Args:
        margin: see `ranked_list`.
        boundary: see `ranked_list`.
        sharpness: see `ranked_list`.
        balance: see `ranked_list`.
    """

    def __init__(
        self,
        margin: float = MARGIN,
        boundary: float = BOUNDARY,
        sharpness: float = SHARPNESS,
        balance: float = BALANCE,
        name: str = "ranked_list",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.margin, self.boundary, self.sharpness, self.balance = margin, boundary, sharpness, balance

    def call(self, y_true, y_pred, memory: pairs.Memory | None = None):
        """Returns the batch's loss, float32 scalar."""
        return ranked_list(y_pred, y_true, self.margin, self.boundary, self.sharpness, self.balance, memory)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        own = {"margin": self.margin, "boundary": self.boundary}
        return {**super().get_config(), **own, "sharpness": self.sharpness, "balance": self.balance}
