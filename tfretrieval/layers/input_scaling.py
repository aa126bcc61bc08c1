"""Scaling of pixels to what a pre-trained backbone expects, inside the model."""

import keras
from keras import ops

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
MODES = ("tf", "torch", "caffe", "none")


def scale_pixels(pixels, mode: str, mean=None, std=None):
    """Scales RGB pixels as `keras.applications.imagenet_utils.preprocess_input` does.

    Args:
        pixels: any number type, [..., 3], RGB in [0, 255].
        mode: "tf" (to [-1, 1]), "torch" (to [0, 1], then ImageNet's mean and deviation), "caffe" (BGR less ImageNet's
            mean) or "none" (for backbones that scale inside).
        mean: with "torch", three numbers in the place of ImageNet's mean.
        std: with "torch", three numbers in the place of ImageNet's deviation.

    Returns:
        float32 [..., 3].
    """
    pixels = ops.cast(pixels, "float32")
    if mode == "tf":
        return pixels / 127.5 - 1.0
    if mode == "torch":
        mean, std = (ops.array(value, "float32") for value in (mean or _IMAGENET_MEAN, std or _IMAGENET_STD))
        return (pixels / 255.0 - mean) / std
    if mode == "caffe":
        return ops.flip(pixels, axis=-1) - ops.array(_CAFFE_MEAN_BGR, "float32")
    return pixels


@keras.saving.register_keras_serializable(package="tfretrieval")
class InputScaling(keras.layers.Layer):
    """Scales RGB pixels in [0, 255], [N, H, W, 3], for a backbone; see `scale_pixels`.

    Args:
        mode: one of `MODES`.
        mean: with "torch", the mean of RGB in [0, 1] that is taken away; ImageNet's when not given.
        std: with "torch", the deviations of RGB that are divided by, none 0; ImageNet's when not given.
    """

    def __init__(self, mode: str, mean=None, std=None, **kwargs):
        super().__init__(**kwargs)
        if mode not in MODES:
            raise ValueError(f"input scaling {mode!r} is unknown; one of {', '.join(MODES)} is wanted.")
        for name, value in (("mean", mean), ("std", std)):
            if value is not None and (mode != "torch" or len(value) != 3 or (name == "std" and 0 in value)):
                raise ValueError(
                    f"input scaling {mode!r} has the {name} {value}; three numbers with 'torch' are wanted."
                )
        self.mode = mode
        self.mean, self.std = (None if value is None else tuple(map(float, value)) for value in (mean, std))

    def call(self, inputs):
        """Returns the scaled pixels in the layer's compute dtype."""
        return ops.cast(scale_pixels(inputs, self.mode, self.mean, self.std), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Returns the shape unchanged."""
        return input_shape

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), "mode": self.mode, "mean": self.mean, "std": self.std}
