"""This toolkit's own backbone for training from nothing."""

import keras

from tfretrieval.backbones.entry import Backbone


def _convolve(maps, filters: int, name: str, stride: int = 1):
    maps = keras.layers.Conv2D(filters, 3, stride, padding="same", use_bias=False, name=f"{name}_conv")(maps)
    return keras.layers.BatchNormalization(name=f"{name}_bn")(maps)


def make_small_resnet(weights: str | None) -> keras.Model:
    """Makes a residual network of ten 3x3 convolutions and stride 16, for training from nothing on small photos.

    This toolkit's own: where no pre-trained weights are at hand, it learns in minutes what a MobileNet of depthwise
    convolutions does not begin to learn. Layers are named stem_*, block1_*, block2_*, block3_*.

    Args:
        weights: None; there are no published ones.

    Returns:
        A model [N, H, W, 3] -> [N, H/16, W/16, 256].

    Raises:
        ValueError: weights are asked for.
    """
    if weights:
        raise ValueError("small_resnet has no published weights; it is trained from nothing")
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.ReLU(name="stem_out")(_convolve(pixels, 32, "stem", stride=2))
    for number, filters in enumerate((64, 128, 256), start=1):
        name = f"block{number}"
        maps = keras.layers.ReLU(name=f"{name}_in")(_convolve(maps, filters, f"{name}_0", stride=2))
        inner = keras.layers.ReLU(name=f"{name}_1_relu")(_convolve(maps, filters, f"{name}_1"))
        residual = _convolve(inner, filters, f"{name}_2")
        maps = keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([maps, residual]))
    return keras.Model(pixels, maps, name="small_resnet")


# One residual block in the last stage: its input, its sum, and the sum's ReLU stand for three residual steps.
SMALL_RESNET = Backbone(
    make_small_resnet,
    "tf",
    "this toolkit",
    stages=("block2_out", "block3_in", "block3_add", "block3_out"),
    notes="for training from nothing; stages have strides 8, 16, 16, 16",
)
