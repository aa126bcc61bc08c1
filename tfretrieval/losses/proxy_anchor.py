"""Proxy-Anchor: each instance's proxy gathers its photos of the batch and drives off the others."""

import keras
from keras import ops

from tfretrieval.losses import classification, pairs

MARGIN, SCALE = 0.1, 32.0


def proxy_anchor(descriptors, labels, proxies, margin: float = MARGIN, scale: float = SCALE):
    """Proxy-Anchor loss.

    L = mean_{p in P+} log(1 + sum_{x of p} exp(-scale (s_xp - margin)))
      + mean_{p in P}  log(1 + sum_{x not of p} exp(scale (s_xp + margin))), s the cosine, P all proxies and P+ those
    with a photo in the batch. Source: Kim et al., "Proxy Anchor Loss for Deep Metric Learning", CVPR 2020.

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B], in [0, C).
        proxies: float32 [C, D], of any length.
        margin: delta, in [0, 1).
        scale: alpha, > 0.

    Returns:
        float32 scalar.
    """
    own = ops.one_hot(ops.cast(labels, "int32"), ops.shape(proxies)[0], dtype="float32", axis=0)  # [C, B]
    similarity = ops.transpose(classification.cosines(descriptors, proxies))
    pull = ops.softplus(pairs.masked_logsumexp(-scale * (similarity - margin), own))
    push = ops.softplus(pairs.masked_logsumexp(scale * (similarity + margin), 1.0 - own))
    return pairs.mean_over(pull, ops.max(own, axis=1)) + ops.mean(push)


@keras.saving.register_keras_serializable(package="tfretrieval")
class ProxyAnchor(classification.ClassificationLoss):
    """Keras loss of `proxy_anchor`; `y_true` is labels [B], `y_pred` descriptors [B, D]; the proxies are its own.

    Args:
        margin: see `proxy_anchor`.
        scale: see `proxy_anchor`.
    """

    def __init__(self, margin: float = MARGIN, scale: float = SCALE, name: str = "proxy_anchor", **kwargs):
        super().__init__(name=name, **kwargs)
        self.margin, self.scale = margin, scale

    def call(self, y_true, y_pred):
        """Returns the batch's loss, float32 scalar."""
        return proxy_anchor(y_pred, y_true, self.trainable_variables[0], self.margin, self.scale)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "margin": self.margin, "scale": self.scale}
