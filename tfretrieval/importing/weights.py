"""Copying PyTorch's tensors into Keras layers."""

import keras
import numpy as np

from tfretrieval.backbones import torchvision_variables
from tfretrieval.importing.tensors import Tensors
from tfretrieval.layers.second_order_attention import SecondOrderAttention

_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def to_keras(array: np.ndarray) -> np.ndarray:
    """Returns a tensor in Keras's order: [out, in, h, w] -> [h, w, in, out], [out, in] -> [in, out]."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def to_torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape that PyTorch has for a Keras variable of this one."""
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else tuple(reversed(shape))


def copy_variable(variable: keras.Variable, tensors: Tensors, name: str) -> None:
    """Sets a variable to a tensor.

    Raises:
        InputError: there is no such tensor, or it is of another shape.
    """
    variable.assign(to_keras(tensors.take(name, to_torch_shape(tuple(variable.shape)))))


def copy_backbone(backbone: keras.Model, tensors: Tensors, bgr: bool = False) -> None:
    """Sets all variables of a ResNet or VGG.

    Args:
        backbone: a `resnet*_v1_5` or `vgg*` of `build_backbone`.
        tensors: under torchvision's names.
        bgr: whether the tensors are for photos with blue first; the first convolution's inputs are then turned round,
            and the network takes RGB as any other.

    Raises:
        InputError: a tensor is missing or of another shape.
    """
    named = _vgg_variables(backbone) if "vgg" in backbone.name else torchvision_variables(backbone)
    for name, variable in named:
        copy_variable(variable, tensors, name)
    if bgr:
        first = named[0][1]
        first.assign(first.numpy()[:, :, ::-1])


def _vgg_variables(backbone: keras.Model) -> list[tuple[str, keras.Variable]]:
    """Pairs torchvision's names with the variables of a VGG: its modules are numbered, ReLUs and poolings included."""
    named, module = [], 0
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Conv2D):
            named += [(f"features.{module}.weight", layer.kernel), (f"features.{module}.bias", layer.bias)]
            module += 2
        elif isinstance(layer, keras.layers.MaxPooling2D):
            module += 1
    return named


def copy_linear(layer: keras.layers.Layer, tensors: Tensors, name: str) -> None:
    """Sets a built Dense layer, or a 1x1 convolution that does the work of one, to a linear layer's weight and bias.

    Raises:
        InputError: a tensor is missing or of another shape.
    """
    wanted = tuple(layer.kernel.shape)
    weight = tensors.take(f"{name}.weight", (wanted[-1], wanted[-2]))
    layer.kernel.assign(weight.T.reshape(wanted))
    copy_variable(layer.bias, tensors, f"{name}.bias")


def copy_attention(layer: SecondOrderAttention, tensors: Tensors, name: str) -> None:
    """Sets a built second-order attention to SOLAR's tensors.

    Raises:
        InputError: a tensor is missing or of another shape.
    """
    for part in ("f", "g"):
        convolution, norm = getattr(layer, part), getattr(layer, f"{part}_normalization")
        copy_variable(convolution.kernel, tensors, f"{name}.{part}.0.weight")
        copy_variable(convolution.bias, tensors, f"{name}.{part}.0.bias")
        for ours, theirs in _NORM.items():
            copy_variable(getattr(norm, ours), tensors, f"{name}.{part}.1.{theirs}")
    for part in ("h", "v"):
        convolution = getattr(layer, part)
        copy_variable(convolution.kernel, tensors, f"{name}.{part}.weight")
        copy_variable(convolution.bias, tensors, f"{name}.{part}.bias")
