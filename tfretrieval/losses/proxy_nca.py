"""Proxy-NCA: neighbourhood components with one proxy for each instance."""

import keras
from keras import ops

from tfretrieval.losses import classification, pairs

TEMPERATURE = 1.0


def proxy_nca(descriptors, labels, proxies, temperature: float = TEMPERATURE):
    """Proxy-NCA loss.

    L_i = d(x_i, p_y) / t + log sum_{c != y} exp(-d(x_i, p_c) / t), d the squared Euclidean distance to proxies of
    length 1. Source: Movshovitz-Attias et al., "No Fuss Distance Metric Learning Using Proxies", ICCV 2017, t = 1. The
    own proxy is not in the sum, so the loss may fall below 0. ProxyNCA++ (Teh, DeVries, Taylor, ECCV 2020) has it
    there, with t = 1/9: that is `norm_softmax` with scale 2 / t = 18 and no smoothing.

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B], in [0, C).
        proxies: float32 [C, D], of any length, C >= 2.
        temperature: t, > 0.

    Returns:
        float32 scalar, the mean over photos.
    """
    classes = ops.shape(proxies)[0]
    own = ops.one_hot(ops.cast(labels, "int32"), classes, dtype="float32")
    distances = (2.0 - 2.0 * classification.cosines(descriptors, proxies)) / temperature
    return ops.mean(ops.sum(own * distances, axis=1) + pairs.masked_logsumexp(-distances, 1.0 - own))


@keras.saving.register_keras_serializable(package="tfretrieval")
class ProxyNCA(classification.ClassificationLoss):
    """Keras loss of `proxy_nca`; `y_true` is labels [B], `y_pred` descriptors [B, D]; the proxies are its own.

    Args:
        temperature: see `proxy_nca`.
    """

    may_be_negative = True

    def __init__(self, temperature: float = TEMPERATURE, name: str = "proxy_nca", **kwargs):
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def build(self, instances: int, dimension: int, seed: int) -> None:
        """Makes the proxies; see `ClassificationLoss.build`."""
        if instances < 2:
            raise ValueError(f"Proxy-NCA was given {instances} instance; 2 or more are wanted.")
        super().build(instances, dimension, seed)

    def call(self, y_true, y_pred):
        """Returns the batch's loss, float32 scalar."""
        return proxy_nca(y_pred, y_true, self.trainable_variables[0], self.temperature)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "temperature": self.temperature}
