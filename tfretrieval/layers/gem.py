"""Generalised-mean pooling."""

import keras
from keras import ops


def gem(maps, p, epsilon: float = 1e-6):
    """Generalised mean over the positions of feature maps.

    f_k = (mean_x max(x_k, epsilon)^p_k)^(1/p_k); p = 1 is the average (SPoC), p -> infinity the maximum (MAC).
    Source: Radenovic, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2018.

    Computed in float32 relative to each map's maximum m, as m * (mean (x/m)^p)^(1/p): the same value, and no power
    overflows or underflows as a whole at large p.

    Args:
        maps: float [N, H, W, C], activations, expected non-negative.
        p: float [] or [C], > 0.
        epsilon: smaller activations are raised to this before the power.

    Returns:
        float32 [N, C].
    """
    maps = ops.maximum(ops.cast(maps, "float32"), epsilon)
    # The maximum only rescales: the result does not depend on it, so its gradient is zero in exact arithmetic.
    largest = ops.stop_gradient(ops.max(maps, axis=(1, 2), keepdims=True))
    mean = ops.mean(ops.exp(p * ops.log(maps / largest)), axis=(1, 2))
    return ops.squeeze(largest, (1, 2)) * ops.exp(ops.log(mean) / p)


@keras.saving.register_keras_serializable(package="tfretrieval")
class GeM(keras.layers.Layer):
    """Generalised-mean pooling of feature maps, [N, H, W, C] -> [N, C]; see `gem`.

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
            raise ValueError(f"GeM's exponent p is {p}; more than 0 is wanted.")
        self.initial_p, self.per_channel, self.trainable_p, self.epsilon = float(p), per_channel, trainable_p, epsilon
        self.input_spec = keras.layers.InputSpec(ndim=4)

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

    def call(self, inputs):
        """Pools [N, H, W, C] to [N, C], float32 whatever the policy: what follows is normalisation."""
        return gem(inputs, ops.convert_to_tensor(self.p), self.epsilon)

    def compute_output_spec(self, inputs):
        """Returns the output's shape and dtype."""
        return keras.KerasTensor((inputs.shape[0], inputs.shape[-1]), dtype="float32")

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        own = {
            "p": self.initial_p,
            "per_channel": self.per_channel,
            "trainable_p": self.trainable_p,
            "epsilon": self.epsilon,
        }
        return {**super().get_config(), **own}
