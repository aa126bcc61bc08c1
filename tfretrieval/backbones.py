"""Backbones by one name: the convolutional trunk of a `keras.applications` network with its own input scaling."""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path

import keras

from tfretrieval.errors import InputError

# Keras's MobileNets average BatchNorm statistics over about 1,000 steps: from scratch, a short training would end
# before they follow. With 0.9 they lag by about ten.
SCRATCH_MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Backbone:
    """One entry of `BACKBONES`.

    Attributes:
        make: called with `weights` (None or "imagenet"); returns a model [N, H, W, 3] -> [N, h, w, C].
        scaling: the mode of `InputScaling` that its weights were trained with.
        last_layer: layer whose output retrieval uses; the model's own output when None.
    """

    make: Callable[..., keras.Model]
    scaling: str
    last_layer: str | None = None


def _of(name: str, scaling: str, last_layer: str | None = None, **kwargs) -> Backbone:
    def make(weights: str | None) -> keras.Model:
        maker = getattr(keras.applications, name)
        return maker(include_top=False, weights=weights, input_shape=(None, None, 3), **kwargs)

    return Backbone(make, scaling, last_layer)


def _small_resnet(weights: str | None) -> keras.Model:
    """Makes a residual network of ten 3x3 convolutions and stride 16, for training from nothing on small photos.

    This toolkit's own: where no pre-trained weights are at hand, it learns in minutes what a MobileNet of depthwise
    convolutions does not begin to learn.
    """
    if weights:
        raise ValueError("small_resnet has no published weights; it is trained from nothing")

    def convolve(maps, filters: int, stride: int = 1):
        return keras.layers.BatchNormalization()(
            keras.layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)(maps)
        )

    pixels = keras.Input((None, None, 3))
    maps = keras.layers.ReLU()(convolve(pixels, 32, stride=2))
    for filters in (64, 128, 256):
        maps = keras.layers.ReLU()(convolve(maps, filters, stride=2))
        residual = convolve(keras.layers.ReLU()(convolve(maps, filters)), filters)
        maps = keras.layers.ReLU()(maps + residual)
    return keras.Model(pixels, maps, name="small_resnet")


BACKBONES: dict[str, Backbone] = {
    "small_resnet": Backbone(_small_resnet, "tf"),
    **{f"mobilenet_v2_{alpha}": _of("MobileNetV2", "tf", alpha=alpha) for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)},
    **{f"resnet{depth}": _of(f"ResNet{depth}", "caffe") for depth in (50, 101, 152)},
    **{f"resnet{depth}_v2": _of(f"ResNet{depth}V2", "tf") for depth in (50, 101, 152)},
    # Retrieval drops VGG's last max-pooling (Radenovic et al. 2018): twice the resolution for the same network.
    "vgg16": _of("VGG16", "caffe", last_layer="block5_conv3"),
    "vgg19": _of("VGG19", "caffe", last_layer="block5_conv4"),
    **{f"densenet{depth}": _of(f"DenseNet{depth}", "torch") for depth in (121, 169, 201)},
    **{f"efficientnet_b{number}": _of(f"EfficientNetB{number}", "none") for number in range(8)},
    **{
        f"efficientnet_v2_{size}": _of(f"EfficientNetV2{size.upper()}", "none")
        for size in ("b0", "b1", "b2", "b3", "s", "m", "l")
    },
}


def build_backbone(name: str, weights: str | None = None) -> keras.Model:
    """Builds a backbone.

    Args:
        name: key of `BACKBONES`.
        weights: None (random), "imagenet" (downloaded by Keras), or a path to a `.weights.h5` file for the same
            network without its top.

    Returns:
        A model [N, H, W, 3] of scaled pixels -> [N, h, w, C]. From random weights its BatchNorm momentum is 0.9.

    Raises:
        InputError: the name is unknown, or the weights are missing, unreadable or of another shape.
    """
    if name not in BACKBONES:
        raise InputError(f"--backbone={name} is unknown; one of {', '.join(BACKBONES)} is wanted.")
    entry = BACKBONES[name]
    path = None if weights in (None, "", "imagenet") else Path(weights)
    if path is not None and not path.is_file():
        raise InputError(f"--weights={path} is not a file; a .weights.h5 file or 'imagenet' is wanted.")
    try:
        model = entry.make("imagenet" if weights == "imagenet" else None)
    except Exception as error:  # Keras raises a bare Exception when a download fails
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"--backbone={name} --weights={weights} could not be made: {reason}") from error
    if path is not None:
        _load(model, path, name)
    elif weights != "imagenet":
        for layer in batch_norms(model):
            layer.momentum = SCRATCH_MOMENTUM
    if entry.last_layer:
        model = keras.Model(model.input, model.get_layer(entry.last_layer).output, name=model.name)
    return model


def _load(model: keras.Model, path: Path, name: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a mismatch is one sentence, not a warning for each layer before it
            model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(" Example error message")[0]
        raise InputError(f"--weights={path} does not fit --backbone={name} without its top: {reason}") from error


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Returns all BatchNorm layers of a model, nested ones included."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
