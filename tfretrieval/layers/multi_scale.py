"""Descriptors over several scales of a photo, put together in the model."""

import keras
from keras import ops

PAPER_SCALES = (1.0, 0.7071, 0.5)


def resize(photos, scale: float):
    """Resizes photos by a factor, bilinear with anti-aliasing (the triangle filter of `tf.image.resize`).

    Written as two matrix products, since Keras's own resize wants sizes that are known when a graph is traced.

    Args:
        photos: [N, H, W, C].
        scale: factor on both sides, > 0; results have at least one pixel a side.

    Returns:
        float32 [N, round(H * scale), round(W * scale), C].
    """
    photos = ops.cast(photos, "float32")
    if scale == 1:
        return photos
    height, width = ops.shape(photos)[1:3]
    narrow = ops.einsum("ow,nhwc->nhoc", _resampling(width, scale), photos)
    return ops.einsum("oh,nhwc->nowc", _resampling(height, scale), narrow)


def _resampling(length, scale: float):
    """Returns the weights of a resize along one side: float32 [round(length * scale), length], rows of sum 1."""
    exact = ops.cast(length, "float32")
    resized = ops.maximum(ops.round(exact * scale), 1.0)
    step = exact / resized
    centres = (ops.cast(ops.arange(ops.cast(resized, "int32")), "float32") + 0.5) * step
    places = ops.cast(ops.arange(length), "float32") + 0.5
    distances = ops.abs(places[None, :] - centres[:, None]) / ops.maximum(step, 1.0)
    weights = ops.maximum(1.0 - distances, 0.0)
    return weights / ops.sum(weights, axis=1, keepdims=True)


def power_mean(descriptors, power):
    """Combines descriptors of one photo: ((1/S) sum_s v_s^power)^(1/power), then L2.

    Source: Radenovic, Tolias, Chum, TPAMI 2018, and its code (`msp`). A power other than 1 needs non-negative entries.

    Args:
        descriptors: list of S tensors [N, D], rows of length 1.
        power: float scalar, > 0; 1 is the mean.

    Returns:
        float32 [N, D], rows of length 1.
    """
    stacked = ops.stack([ops.cast(vector, "float32") for vector in descriptors])
    if isinstance(power, (int, float)) and power == 1:
        return ops.normalize(ops.mean(stacked, axis=0), axis=-1)
    return ops.normalize(ops.mean(ops.maximum(stacked, 0.0) ** power, axis=0) ** (1.0 / power), axis=-1)


@keras.saving.register_keras_serializable(package="tfretrieval")
class MultiScale(keras.layers.Layer):
    """Describes photos at several scales with one network, [N, H, W, 3] -> [N, D]; see `power_mean`.

    Args:
        network: a network [N, H, W, 3] -> [N, D], rows of length 1.
        scales: factors on the photo's sides, each > 0.
        power: exponent of the mean over scales; 1 wherever the network's descriptors can be negative.
    """

    def __init__(self, network: keras.Model, scales=PAPER_SCALES, power: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        if not scales or not all(scale > 0 for scale in scales):
            raise ValueError(f"the scales are {scales}; one or more factors above 0 are wanted.")
        if not power > 0:
            raise ValueError(f"the power is {power}; more than 0 is wanted.")
        self.network, self.scales, self.power = network, tuple(map(float, scales)), float(power)

    def call(self, inputs, training=False):
        """Returns the combined descriptors, float32 [N, D]."""
        found = [self.network(resize(inputs, scale), training=training) for scale in self.scales]
        return power_mean(found, self.power)

    def compute_output_spec(self, inputs, training=False):
        """Returns the output's shape and dtype."""
        del training
        return keras.KerasTensor((inputs.shape[0], self.network.output_shape[-1]), dtype="float32")

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        network = keras.saving.serialize_keras_object(self.network)
        return {**super().get_config(), "network": network, "scales": self.scales, "power": self.power}

    @classmethod
    def from_config(cls, config):
        """Makes the layer, its network included, from `get_config`'s result."""
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})
