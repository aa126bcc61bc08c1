"""Generalised-mean pooling."""

import keras
from keras import ops

from tfretrieval.layers import masking
from tfretrieval.layers.pooling import Pooling


def gem(maps, p, epsilon: float = 1e-6, mask=None):
    """Generalised mean over the positions of feature maps.

    f_k = (mean_x max(x_k, epsilon)^p_k)^(1/p_k); p = 1 is the average (SPoC), p -> infinity the maximum (MAC).
    Source: Radenovic, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2018.

    Computed in float32 relative to each map's maximum m, as m * (mean (x/m)^p)^(1/p): the same value, and no power
    overflows or underflows as a whole at large p.

    Args:
        maps: float [N, H, W, C] or [N, T, C], activations, expected non-negative.
        p: float [] or [C], > 0.
        epsilon: smaller activations are raised to this before the power.
        mask: bool [N, H, W] or [N, T], true where a position counts.

    Returns:
        float32 [N, C]; zeros where no position counts.
    """
    maps, mask = masking.prepare(maps, mask)
    axes = masking.position_axes(maps)
    maps = ops.maximum(maps, epsilon)
    # The maximum only rescales: the result does not depend on it, so its gradient is zero in exact arithmetic.
    largest = ops.stop_gradient(ops.max(maps, axis=axes, keepdims=True))
    # The position of the maximum has the power 1, so a mean below 1e-30 is that of a row without any position.
    mean = ops.maximum(masking.mean(ops.exp(p * ops.log(maps / largest)), mask), 1e-30)
    return masking.zero_empty(ops.squeeze(largest, axes) * ops.exp(ops.log(mean) / p), mask)


@keras.saving.register_keras_serializable(package="tfretrieval")
class GeM(Pooling):
    """Generalised-mean pooling of feature maps or tokens, [N, H, W, C] or [N, T, C] -> [N, C]; see `gem`.

    The weights of the exponent p are named "p", by which training gives them their own learning rate.

    Args:
        p: initial exponent, > 0.
        per_channel: one exponent for each channel instead of one shared.
        trainable_p: whether p is learnt.
        epsilon: smallest activation.

    Example:
        >>> GeM(p=1.0)(np.ones((2, 7, 7, 4))).shape
        (2, 4)
    """

    def __init__(
        self, p: float = 3.0, per_channel: bool = False, trainable_p: bool = True, epsilon: float = 1e-6, **kwargs
    ):
        super().__init__(**kwargs)
        if not p > 0:
            raise ValueError(f"{type(self).__name__}'s exponent p is {p}; more than 0 is wanted.")
        self.initial_p, self.per_channel, self.trainable_p, self.epsilon = float(p), per_channel, trainable_p, epsilon

    def build(self, input_shape):
        """Makes the exponent: float32 [] or [C]."""
        self.p = self.add_weight(
            name="p",
            shape=(input_shape[-1],) if self.per_channel else (),
            initializer=keras.initializers.Constant(self.initial_p),
            trainable=self.trainable_p,
            dtype="float32",
            autocast=False,  # a half-precision exponent would move the pooled value by more than a training step does
        )

    def pool(self, maps, mask):
        """Returns the generalised means."""
        return gem(maps, ops.convert_to_tensor(self.p), self.epsilon, mask)

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        own = {
            "p": self.initial_p,
            "per_channel": self.per_channel,
            "trainable_p": self.trainable_p,
            "epsilon": self.epsilon,
        }
        return {**super().get_config(), **own}
