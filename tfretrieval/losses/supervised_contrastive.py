"""Supervised contrastive loss."""

import keras
from keras import ops

from tfretrieval.losses import pairs

TEMPERATURE = 0.1


def supervised_contrastive(descriptors, labels, temperature: float = TEMPERATURE, memory: pairs.Memory | None = None):
    """Supervised contrastive loss, the mean over matches taken outside of the logarithm.

    L_i = -mean_{p in P(i)} log( exp(s_ip / t) / sum_{a != i} exp(s_ia / t) ), the mean over photos i with a match.
    Source: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, L_out.

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        temperature: t, > 0.
        memory: earlier photos to compare with too.

    Returns:
        float32 scalar.
    """
    matching, other = pairs.pair_masks(labels, memory)
    logits = pairs.similarities(descriptors, memory) / temperature
    others = ops.where(matching + other > 0, logits, -1e9)  # everyone but the photo itself
    log_share = logits - ops.logsumexp(others, axis=1, keepdims=True)
    matches = ops.sum(matching, axis=1)
    per_photo = -ops.sum(log_share * matching, axis=1) / ops.maximum(matches, 1.0)
    return pairs.mean_over(per_photo, ops.cast(matches > 0, "float32"))


@keras.saving.register_keras_serializable(package="tfretrieval")
class SupervisedContrastive(keras.losses.Loss):
    """Keras loss of `supervised_contrastive`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    Args:
        temperature: see `supervised_contrastive`.
    """

    def __init__(self, temperature: float = TEMPERATURE, name: str = "supervised_contrastive", **kwargs):
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def call(self, y_true, y_pred, memory: pairs.Memory | None = None):
        """Returns the batch's loss, float32 scalar."""
        return supervised_contrastive(y_pred, y_true, self.temperature, memory)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "temperature": self.temperature}
