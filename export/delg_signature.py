"""The signature `delg`: the inputs and outputs of a DELG model with global descriptors, so that its clients work.

Names and shapes are those of the SavedModels that DELF's `export_global_model` writes (Cao, Araujo, Sim, ECCV 2020, and
its code). One photo at a time, without a batch dimension.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from tfretrieval.data.formats import binary

DELG = "delg"
MOST_SCALES = 32


def choose_scales(image: tf.Tensor, scales: tf.Tensor, places: tf.Tensor, most_pixels: int) -> tf.Tensor:
    """Returns the scales at which a photo is described.

    Args:
        image: uint8 [h, w, 3].
        scales: float32 [S], each that is chosen above 0.
        places: int32 [G], which of the scales are chosen, in [0, S); at most `MOST_SCALES`.
        most_pixels: that a resized photo may have.

    Returns:
        float32 [G].

    Raises:
        tf.errors.InvalidArgumentError: an input is not of that kind.
    """
    chosen = tf.gather(scales, _inside(places, tf.size(scales)))
    problem = _problem(tf.shape(image)[:2], tf.size(scales), places, chosen, most_pixels)
    with tf.control_dependencies([binary.refuse(problem)]):
        return tf.identity(chosen)


def describe_scales(
    network: Callable[[tf.Tensor], tf.Tensor], dimension: int, image: tf.Tensor, scales: tf.Tensor
) -> tf.Tensor:
    """Describes a photo at several scales.

    The scale 1 is the photo as it is sent. Others resize it to its sides times the scale, rounded, with TensorFlow's
    anti-aliased bilinear filter, and to whole levels; DELG's own graph does not anti-alias.

    Args:
        network: RGB pixels uint8 [n, h, w, 3] -> float32 [n, D], rows of length 1.
        dimension: D.
        image: uint8 [h, w, 3].
        scales: float32 [G]; see `choose_scales`.

    Returns:
        float32 [G, D], rows of length 1.
    """
    sides = tf.shape(image)[:2]

    def describe(scale: tf.Tensor) -> tf.Tensor:
        size = _resized(sides, scale)

        def resized() -> tf.Tensor:
            levels = tf.image.resize(image, size, antialias=True)
            return tf.cast(tf.clip_by_value(tf.round(levels), 0, 255), tf.uint8)

        photo = tf.cond(tf.reduce_all(size == sides), lambda: image, resized)
        return network(photo[tf.newaxis])[0]

    row = tf.TensorSpec([dimension], tf.float32)
    return tf.map_fn(describe, scales, fn_output_signature=row, parallel_iterations=1)


def _inside(places: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns places, int32 [G], with those that are outside of [0, count) left out."""
    return tf.boolean_mask(places, (places >= 0) & (places < count))


def _resized(sides: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Returns the sides, int32 [..., 2], that a scale, float32 [...], makes of a photo's, int32 [2]."""
    return tf.maximum(1, tf.cast(tf.round(tf.cast(sides, tf.float32) * scale[..., tf.newaxis]), tf.int32))


def _problem(sides: tf.Tensor, known: tf.Tensor, places: tf.Tensor, chosen: tf.Tensor, most_pixels: int) -> tf.Tensor:
    """Returns what is wrong with the inputs, string scalar; empty for nothing."""
    usable = tf.reduce_all((chosen > 0) & (chosen < math.inf))  # false for NaN
    # A scale of more than a million makes too many pixels of any photo.
    made = tf.cast(_resized(sides, tf.where(usable, tf.minimum(chosen, 1e6), 1.0)), tf.float64)
    largest = tf.reduce_max(tf.concat([tf.reduce_prod(made, axis=1), [0.0]], axis=0))
    outside = tf.strings.format(
        "input_global_scales_ind: {}; places in the {} of input_scales are wanted", (places, known)
    )
    several = tf.strings.format(
        f"input_global_scales_ind: {{}} scales; at most {MOST_SCALES} are wanted", tf.size(places)
    )
    large = tf.strings.format(
        f"input_scales: {{}} make a photo of {{}} x {{}} larger than {most_pixels} pixels", (chosen, sides[0], sides[1])
    )
    return binary.first_text(
        [
            (tf.reduce_min(sides) < 1, "input_image: no pixel"),
            (tf.size(places) > MOST_SCALES, several),
            (tf.size(chosen) < tf.size(places), outside),
            (~usable, tf.strings.format("input_scales: {}; scales above 0 are wanted", chosen)),
            (largest > most_pixels, large),
        ]
    )
