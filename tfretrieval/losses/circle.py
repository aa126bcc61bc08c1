"""Circle loss."""

import keras
from keras import ops

from tfretrieval.losses import pairs

MARGIN, SCALE = 0.4, 80.0


def circle(descriptors, labels, margin: float = MARGIN, scale: float = SCALE, memory: pairs.Memory | None = None):
    """Circle loss: pairs far from where they should be weigh more.

    L_i = log(1 + sum_n exp(scale a_n (s_n - margin)) sum_p exp(-scale a_p (s_p - 1 + margin))),
    a_n = max(0, s_n + margin) and a_p = max(0, 1 + margin - s_p), both constant in the gradient.
    Source: Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020, with its
    values for fine-grained retrieval (0.25 and 256 for faces).

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        margin: the relaxation m, in (0, 1).
        scale: gamma, > 0.
        memory: earlier photos to compare with too.

    Returns:
        float32 scalar, the mean over photos that have a match and a non-match in the batch.
    """
    similarity = pairs.similarities(descriptors, memory)
    matching, other = pairs.pair_masks(labels, memory)
    pull = ops.stop_gradient(ops.maximum(1.0 + margin - similarity, 0.0))
    push = ops.stop_gradient(ops.maximum(similarity + margin, 0.0))
    matches = pairs.masked_logsumexp(-scale * pull * (similarity - 1.0 + margin), matching)
    others = pairs.masked_logsumexp(scale * push * (similarity - margin), other)
    complete = ops.max(matching, axis=1) * ops.max(other, axis=1)
    return pairs.mean_over(ops.softplus(matches + others), complete)


@keras.saving.register_keras_serializable(package="tfretrieval")
class Circle(keras.losses.Loss):
    """Keras loss of `circle`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    Args:
        margin: see `circle`.
        scale: see `circle`.
    """

    def __init__(self, margin: float = MARGIN, scale: float = SCALE, name: str = "circle", **kwargs):
        super().__init__(name=name, **kwargs)
        self.margin, self.scale = margin, scale

    def call(self, y_true, y_pred, memory: pairs.Memory | None = None):
        """Returns the batch's loss, float32 scalar."""
        return circle(y_pred, y_true, self.margin, self.scale, memory)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "margin": self.margin, "scale": self.scale}
