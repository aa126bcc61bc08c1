"""Descriptors over several scales of a photo, put together in the model."""

import math

import keras
from keras import ops

from tfretrieval.layers import sizes
from tfretrieval.layers.masking import unit_length

PAPER_SCALES = (1.0, 0.7071, 0.5)
_BLOCK = 32


def resize(photos, scale: float, antialias: bool = True):
    """Resizes photos by a factor, bilinear.

    Written as matrix products, since Keras's own resize wants sizes that are known when a graph is traced; in blocks of
    rows, each from the few rows near it (a third of the time of whole matrices at 512 px).

    Args:
        photos: [N, H, W, C].
        scale: factor on both sides, > 0; results have at least one pixel a side.
        antialias: with it, the triangle filter of `tf.image.resize`; without, the two nearest pixels of each side, as
            `torch.nn.functional.interpolate(scale_factor=scale)` takes them, which the GeM paper's code uses.

    Returns:
        float32 [N, h, w, C]; h and w are H and W times the scale, rounded, or rounded down without anti-aliasing.
    """
    photos = ops.cast(photos, "float32")
    if scale == 1:
        return photos
    turned = ops.transpose(_resize_rows(photos, scale, antialias), (0, 2, 1, 3))
    return ops.transpose(_resize_rows(turned, scale, antialias), (0, 2, 1, 3))


def _resize_rows(photos, scale: float, antialias: bool):
    """Resizes photos [N, H, W, C] to [N, h, W, C]."""
    count, height, width, channels = ops.shape(photos)
    places, weights, resized = _resampling(height, scale, antialias)
    near = ops.take(ops.reshape(photos, (count, height, -1)), places, axis=1)
    return ops.reshape(ops.matmul(weights, near), (count, -1, width, channels))[:, :resized]


def _resampling(length, scale: float, antialias: bool):
    """Returns how B blocks of `_BLOCK` resized rows come from P rows near each.

    Returns:
        The places of those rows, int32 [B, P]; their weights, float32 [B, _BLOCK, P], of sum 1; and the resized
        length, beyond which the last block has repetitions.
    """
    numbers = sizes.numbers(length)
    exact = numbers.cast(length, "float32")
    resized = numbers.maximum((numbers.round if antialias else numbers.floor)(exact * scale), 1.0)
    step = exact / resized if antialias else 1.0 / scale
    reach = numbers.maximum(step, 1.0) if antialias else 1.0
    blocks = numbers.cast(numbers.ceil(resized / _BLOCK), "int32")
    near = numbers.cast(numbers.ceil((_BLOCK - 1) * step + 2 * reach), "int32") + 2
    near = numbers.minimum(near, length)
    centres = (ops.cast(ops.arange(blocks * _BLOCK), "float32") + 0.5) * step
    centres = ops.reshape(ops.minimum(centres, exact - 0.5), (-1, _BLOCK))
    first = ops.clip(ops.cast(ops.floor(centres[:, 0] - reach - 0.5), "int32"), 0, length - near)
    places = first[:, None] + ops.arange(near)[None, :]
    distances = ops.abs(ops.cast(places, "float32")[:, None, :] + 0.5 - centres[:, :, None]) / reach
    weights = ops.maximum(1.0 - distances, 0.0)
    return places, weights / ops.sum(weights, axis=-1, keepdims=True), numbers.cast(resized, "int32")


def power_mean(descriptors, power):
    """Combines descriptors of one photo: ((1/S) sum_s v_s^power)^(1/power), then L2.

    Source: Radenovic, Tolias, Chum, TPAMI 2018, and its code (`msp`); the infinite power, which takes each entry's
    maximum over the scales, is the scale-GeM of Shao et al. (SuperGlobal), ICCV 2023. Powers other than 1 and infinity
    need non-negative entries: negative ones count as 0.

    Args:
        descriptors: list of S tensors [N, D], rows of length 1.
        power: float, > 0; 1 is the mean, `math.inf` the maximum.

    Returns:
        float32 [N, D], rows of length 1.
    """
    stacked = ops.stack([ops.cast(vector, "float32") for vector in descriptors])
    if power == 1:
        return unit_length(ops.mean(stacked, axis=0))
    largest = ops.max(stacked, axis=0)
    if power == math.inf:
        return unit_length(largest)
    # Relative to the largest entry, which the power 1 has: roots of 0, whose slope is infinite, do not come about.
    largest = ops.stop_gradient(ops.maximum(largest, 1e-12))
    mean = ops.mean(ops.maximum(stacked / largest, 1e-12) ** power, axis=0)
    return unit_length(largest * ops.maximum(mean, 1e-30) ** (1.0 / power))


@keras.saving.register_keras_serializable(package="tfretrieval")
class MultiScale(keras.layers.Layer):
    """Describes photos at several scales with one network, [N, H, W, 3] -> [N, D]; see `power_mean`.

    Args:
        network: a network [N, H, W, 3] -> [N, D], rows of length 1.
        scales: factors on the photo's sides, each > 0.
        power: exponent of the mean over scales, 1 wherever the network's descriptors can be negative, or `math.inf`.
        antialias: see `resize`.
    """

    def __init__(self, network: keras.Model, scales=PAPER_SCALES, power: float = 1.0, antialias: bool = True, **kwargs):
        super().__init__(**kwargs)
        if not scales or not all(scale > 0 for scale in scales):
            raise ValueError(f"the scales are {scales}; one or more factors above 0 are wanted.")
        if not power > 0:
            raise ValueError(f"the power is {power}; more than 0 is wanted.")
        self.network, self.scales, self.power = network, tuple(map(float, scales)), float(power)
        self.antialias = antialias

    def call(self, inputs, training=False):
        """Returns the combined descriptors, float32 [N, D]."""
        found = [self.network(resize(inputs, scale, self.antialias), training=training) for scale in self.scales]
        return power_mean(found, self.power)

    def compute_output_spec(self, inputs, training=False):
        """Returns the output's shape and dtype."""
        del training
        return keras.KerasTensor((inputs.shape[0], self.network.output_shape[-1]), dtype="float32")

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        network = keras.saving.serialize_keras_object(self.network)
        own = {"network": network, "scales": self.scales, "power": self.power, "antialias": self.antialias}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        """Makes the layer, its network included, from `get_config`'s result."""
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})
