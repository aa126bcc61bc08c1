"""Where the parameters of a ResNet of torchvision belong in a `resnet*_v1_5` backbone."""

import re

import keras

_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def torchvision_name(layer: str, variable: str) -> str:
    """Returns torchvision's name of a variable of a ResNet v1.5.

    conv1_conv, conv1_bn are conv1, bn1; stack{s}_block{b}_{i}_conv and _bn are layer{s + 1}.{b}.conv{i} and .bn{i};
    i = 0 is the shortcut, downsample.0 and downsample.1.

    Args:
        layer: name of the Keras layer.
        variable: name of its variable: "kernel", or one of a BatchNorm layer's four.
    """
    parameter = {keras_name: name for name, keras_name in _NORM.items()}.get(variable, "weight")
    found = re.fullmatch(r"stack(\d)_block(\d+)_(\d)_(conv|bn)", layer)
    if not found:
        return f"{'conv1' if layer == 'conv1_conv' else 'bn1'}.{parameter}"
    stack, block, number, kind = found.groups()
    part = f"{kind}{number}" if number != "0" else f"downsample.{0 if kind == 'conv' else 1}"
    return f"layer{int(stack) + 1}.{block}.{part}.{parameter}"


def torchvision_variables(model: keras.Model) -> list[tuple[str, keras.Variable]]:
    """Pairs torchvision's parameter names of a ResNet with the variables of the same network here.

    A 4-dimensional array of torchvision is [out, in, kh, kw] and the variable [kh, kw, in, out]: transpose it by
    (2, 3, 1, 0); the others are equal as they are. torchvision's `fc.*` and `num_batches_tracked` have no counterpart.

    Args:
        model: a `resnet*_v1_5` of `build_backbone`.

    Returns:
        One (name, variable) for each variable of the model, in the order of its layers.

    Raises:
        ValueError: the model is no such network.
    """
    layers = [layer for layer in model.layers if layer.weights]
    wanted = re.compile(r"(conv1|stack\d_block\d+_\d)_(conv|bn)")
    if not layers or not all(wanted.fullmatch(layer.name) for layer in layers):
        raise ValueError(f"{model.name} is not a ResNet v1.5; a resnet*_v1_5 of build_backbone is wanted.")
    return [(torchvision_name(layer.name, weight.name), weight) for layer in layers for weight in layer.weights]
