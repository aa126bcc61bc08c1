"""Scaling of pixels to what a pre-trained backbone expects, inside the model."""

import keras
from keras import ops

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
MODES = ("tf", "torch", "caffe", "none")


def scale_pixels(pixels, mode: str):
    """Scales RGB pixels as `keras.applications.imagenet_utils.preprocess_input` does.

    Args:
        pixels: any number type, [..., 3], RGB in [0, 255].
        mode: "tf" (to [-1, 1]), "torch" (to [0, 1], then ImageNet's mean and deviation), "caffe" (BGR less ImageNet's
            mean) or "none" (for backbones that scale inside).

    Returns:
        float32 [..., 3].
    """
    pixels = ops.cast(pixels, "float32")
    if mode == "tf":
        return pixels / 127.5 - 1.0
    if mode == "torch":
        return (pixels / 255.0 - ops.array(_IMAGENET_MEAN, "float32")) / ops.array(_IMAGENET_STD, "float32")
    if mode == "caffe":
        return ops.flip(pixels, axis=-1) - ops.array(_CAFFE_MEAN_BGR, "float32")
    return pixels


@keras.saving.register_keras_serializable(package="tfretrieval")
class InputScaling(keras.layers.Layer):
    """Scales RGB pixels in [0, 255], [N, H, W, 3], for a backbone; see `scale_pixels`.

    Args:
        mode: one of `MODES`.
    """

    def __init__(self, mode: str, **kwargs):
        super().__init__(**kwargs)
        if mode not in MODES:
            raise ValueError(f"input scaling {mode!r} is unknown; one of {', '.join(MODES)} is wanted.")
        self.mode = mode

    def call(self, inputs):
        """Returns the scaled pixels in the layer's compute dtype."""
        return ops.cast(scale_pixels(inputs, self.mode), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Returns the shape unchanged."""
        return input_shape

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), "mode": self.mode}
