"""Building the network that a checkpoint describes."""

import re

import keras
from keras import ops

from tfretrieval import backbones, layers
from tfretrieval.errors import InputError
from tfretrieval.importing import weights
from tfretrieval.importing.architectures import ARCHITECTURES
from tfretrieval.importing.published import Published
from tfretrieval.layers.superglobal import relup
from tfretrieval.layers.whitened_regions import KINDS, WhitenedRegions
from tfretrieval.models.attention import AttentionConfig, attend

# SuperGlobal's code has ReLUP inside the first stage's blocks, and after every block but the last stage's.
_RELUP_AFTER = re.compile(r"stack0_block\d+_[12]_relu|stack[012]_block\d+_out")


def build_network(published: Published) -> keras.Model:
    """Builds a descriptor network with the weights of a checkpoint.

    Its layers have the names of `build_descriptor`'s: input_scaling, minimum_size, the backbone, local_whitening where
    there is one, pooling, pooled, whitening, whitened.

    Args:
        published: what the checkpoint says; the tensors that are used are noted in it.

    Returns:
        A model of RGB pixels in [0, 255], [N, H, W, 3] -> float32 [N, D], rows of length 1.

    Raises:
        InputError: a tensor is missing or of another shape, or the parts do not go together.
    """
    pixels = keras.Input((None, None, 3), name="images")
    scaled = layers.InputScaling("torch", published.mean, published.std, name="input_scaling")(pixels)
    maps = _backbone(published)(layers.MinimumSize(name="minimum_size")(scaled))
    if published.local_whitening:
        local = keras.layers.Conv2D(published.tensors.shape("local.weight")[0], 1, name="local_whitening")
        maps = local(maps)
        weights.copy_linear(local, published.tensors, "local")
    pooling = _pooling(published)
    descriptors = pooling(maps)
    _set_pooling(pooling, published)
    if published.normalized or not published.whitening:
        descriptors = keras.layers.UnitNormalization(name="pooled", dtype="float32")(descriptors)
    if published.whitening:
        linear = keras.layers.Dense(published.tensors.shape("whiten.weight")[0], name="whitening", dtype="float32")
        descriptors = linear(descriptors)
        weights.copy_linear(linear, published.tensors, "whiten")
        descriptors = keras.layers.UnitNormalization(name="whitened", dtype="float32")(descriptors)
    return keras.Model(pixels, descriptors, name="descriptor")


def _backbone(published: Published) -> keras.Model:
    """Builds the backbone with its weights, attention and ReLUP inside."""
    name = ARCHITECTURES[published.architecture].backbone
    backbone = backbones.build_backbone(name)
    weights.copy_backbone(backbone, published.tensors, published.bgr)
    if published.pooling == "superglobal":
        backbone = _with_relup(backbone)
    if published.attention:
        where = "".join(map(str, published.attention))
        config = AttentionConfig("second_order", attention_layers=where)
        backbone = attend(backbone, backbones.BACKBONES[name].stages, config)
        for stage in published.attention:
            layer = backbone.get_layer(f"attention_{stage}")
            weights.copy_attention(layer, published.tensors, f"soa{stage}")
    return backbone


def _with_relup(backbone: keras.Model) -> keras.Model:
    """Returns a ResNet with ReLUP where SuperGlobal's code has it."""

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        return relup(outputs) if _RELUP_AFTER.fullmatch(layer.name) else outputs

    raised = keras.models.clone_model(backbone, call_function=call)
    for variable, source in zip(raised.variables, backbone.variables, strict=True):
        variable.assign(source.value)
    return raised


def _pooling(published: Published) -> keras.layers.Layer:
    """Makes the pooling layer."""
    kind = published.pooling
    tensors, given = published.tensors, {"name": "pooling"}
    if "pool.p" in tensors and tensors.shape("pool.p") != (1,):
        given["per_channel"] = True
    if published.regional:
        if kind not in KINDS:
            raise InputError(
                f"--checkpoint={tensors.source} pools regions by {kind}; one of {', '.join(KINDS)} is wanted."
            )
        return WhitenedRegions(kind, **given)
    if kind == "superglobal":  # ReLUP is in the backbone
        return layers.POOLINGS[kind](alpha=0.0, name="pooling")
    return layers.POOLINGS[kind](**given)


def _set_pooling(pooling: keras.layers.Layer, published: Published) -> None:
    """Sets the weights of a built pooling layer; those of a format without them stay as they are."""
    tensors = published.tensors
    if published.regional:
        weights.copy_linear(pooling, tensors, "regional")
    learnt = published.format != "torchvision" and published.pooling == "gem"
    if not learnt:
        return
    p = tensors.take("pool.p", tuple(pooling.p.shape) or (1,))
    if not (p > 0).all():
        raise InputError(f"--checkpoint={tensors.source} has an exponent of {float(p.min())}; more than 0 is wanted.")
    pooling.p.assign(ops.reshape(p, pooling.p.shape))
