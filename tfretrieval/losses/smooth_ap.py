"""Smooth-AP: average precision with sigmoids in place of steps."""

import keras
from keras import ops

from tfretrieval.losses import listwise, pairs

TEMPERATURE = 0.01


def smooth_ap(descriptors, labels, temperature: float = TEMPERATURE, memory: pairs.Memory | None = None):
    """One minus the mean over photos q of a smoothed average precision of the others' order.

    AP_q = 1/|P| sum_{i in P} (1 + sum_{j in P, j != i} g_ij) / (1 + sum_{j in P + N, j != i} g_ij), with
    g_ij = sigmoid((s_qj - s_qi) / t), P the matches of q and N its non-matches. Source: Brown et al., "Smooth-AP:
    Smoothing the Path Towards Large-Scale Image Retrieval", ECCV 2020, t = 0.01. A photo is not in its own list, and
    photos without a match are left out of the mean (both this toolkit's; the authors' code ranks the photo itself too).

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        temperature: t, > 0.
        memory: earlier photos to rank too.

    Returns:
        float32 scalar in [0, 1].
    """

    def list_loss(similarity, matching, other):
        above = ops.sigmoid((similarity[:, None, :] - similarity[:, :, None]) / temperature)  # [R, i, j]
        # The 1 of each formula stands for i itself, whose sigmoid is 1/2.
        matches_above = 0.5 + ops.einsum("rij,rj->ri", above, matching)
        all_above = matches_above + ops.einsum("rij,rj->ri", above, other)
        precision = ops.sum(matching * matches_above / all_above, axis=1)
        return 1.0 - precision / ops.maximum(ops.sum(matching, axis=1), 1.0)

    return listwise.mean_over_lists(list_loss, descriptors, labels, memory, width=None)


@keras.saving.register_keras_serializable(package="tfretrieval")
class SmoothAP(keras.losses.Loss):
    """Keras loss of `smooth_ap`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    Args:
        temperature: see `smooth_ap`.
    """

    def __init__(self, temperature: float = TEMPERATURE, name: str = "smooth_ap", **kwargs):
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def call(self, y_true, y_pred, memory: pairs.Memory | None = None):
        """Returns the batch's loss, float32 scalar."""
        return smooth_ap(y_pred, y_true, self.temperature, memory)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "temperature": self.temperature}
