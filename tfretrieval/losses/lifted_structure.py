"""Lifted structure loss."""

import keras
from keras import ops

from tfretrieval.losses import distances, pairs

MARGIN = 1.0


def lifted_structure(descriptors, labels, margin: float = MARGIN, memory: pairs.Memory | None = None):
    """Lifted structure loss: every matching pair against all non-matches of both its photos.

    J_ij = log( sum_{k: other than i} exp(margin - d_ik) + sum_{l: other than j} exp(margin - d_jl) ) + d_ij,
    L = 1 / (2 |P|) sum_{(i,j) in P} max(0, J_ij)^2.
    Source: Oh Song, Xiang, Jegelka, Savarese, "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR
    2016; its descriptors have any length.

    Args:
        descriptors: [B, D].
        labels: int [B].
        margin: distance that non-matches are pushed to.
        memory: earlier photos, which serve as non-matches.

    Returns:
        float32 scalar; 0 without a matching pair, and without a non-match.
    """
    found = distances.all_pairs(descriptors, memory=memory)
    matching, other = pairs.pair_masks(labels, memory)
    pushed = pairs.masked_logsumexp(margin - found, other)
    batch = ops.shape(pushed)[0]
    violation = ops.maximum(ops.logaddexp(pushed[:, None], pushed[None, :]) + found[:, :batch], 0.0)
    return 0.5 * pairs.mean_over(ops.square(violation), matching[:, :batch])


@keras.saving.register_keras_serializable(package="tfretrieval")
class LiftedStructure(keras.losses.Loss):
    """Keras loss of `lifted_structure`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    Args:
        margin: see `lifted_structure`.
    """

    def __init__(self, margin: float = MARGIN, name: str = "lifted_structure", **kwargs):
        super().__init__(name=name, **kwargs)
        self.margin = margin

    def call(self, y_true, y_pred, memory: pairs.Memory | None = None):
        """Returns the batch's loss, float32 scalar."""
        return lifted_structure(y_pred, y_true, self.margin, memory)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "margin": self.margin}
