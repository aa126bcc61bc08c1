"""Backbones of `keras.applications`, cut where retrieval reads them."""

from collections.abc import Callable

import keras

from tfretrieval.backbones.entry import Backbone
from tfretrieval.layers import MinimumSize

_ANY_SIZE = (None, None, 3)
_SIGNED = "ends in signed activations"


def _of(name: str, scaling: str, last_layer: str = "", stages: tuple[str, ...] = (), notes: str = "", **kwargs):
    """Makes the entry of `keras.applications.<name>`, which accepts photos of any size itself."""

    def make(weights: str | None) -> keras.Model:
        maker = getattr(keras.applications, name)
        return maker(include_top=False, weights=weights, input_shape=_ANY_SIZE, **kwargs)

    finish = _cut(last_layer)
    source = f"keras.applications.{name}"
    return Backbone(make, scaling, source, finish, stages, published="imagenet", notes=notes)


def _behind(name: str, scaling: str, layer: Callable[[], keras.layers.Layer], notes: str) -> Backbone:
    """Makes the entry of a network that does not accept every size, behind a layer which gives it one it accepts."""

    def make(weights: str | None) -> keras.Model:
        pixels = layer()(keras.Input(_ANY_SIZE))
        return getattr(keras.applications, name)(include_top=False, weights=weights, input_tensor=pixels)

    return Backbone(make, scaling, f"keras.applications.{name}", published="imagenet", notes=notes)


def _inception(name: str) -> Backbone:
    """Makes the entry of a network whose unpadded strides leave nothing of photos below 75 pixels."""
    return _behind(
        name, "tf", lambda: MinimumSize(75, name="least_side"), "photos below 75 pixels are enlarged by their edges"
    )


def _nasnet(name: str, side: int) -> Backbone:
    """Makes the entry of a NASNet, whose cells Keras joins only at a size known when it is built."""

    def native_size() -> keras.layers.Layer:
        return keras.layers.Resizing(side, side, antialias=True, name="native_size")

    return _behind(name, "tf", native_size, f"photos are resized to {side} x {side}: one size only in Keras")


def _cut(last_layer: str) -> Callable[[keras.Model], keras.Model] | None:
    if not last_layer:
        return None
    return lambda network: keras.Model(network.input, network.get_layer(last_layer).output, name=network.name)


def _resnet_stages(blocks: int) -> tuple[str, ...]:
    return (f"conv4_block{blocks}_out", "conv5_block1_out", "conv5_block2_out", "conv5_block3_out")


def _resnet_v2_stages(blocks: int) -> tuple[str, ...]:
    """A V2 stack of Keras strides in its last block, so the stride-16 maps end one block before the stack does."""
    return (f"conv4_block{blocks - 1}_out", "conv5_block1_out", "conv5_block2_out", "post_relu")


_BLOCKS = {50: 6, 101: 23, 152: 36}
_MOBILENET_V2_STAGES = ("block_12_add", "block_13_project_BN", "block_15_add", "out_relu")

APPLICATIONS: dict[str, Backbone] = {
    **{
        f"mobilenet_v2_{alpha}": _of("MobileNetV2", "tf", stages=_MOBILENET_V2_STAGES, alpha=alpha)
        for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
    },
    **{f"resnet{depth}": _of(f"ResNet{depth}", "caffe", stages=_resnet_stages(_BLOCKS[depth])) for depth in _BLOCKS},
    **{
        f"resnet{depth}_v2": _of(f"ResNet{depth}V2", "tf", stages=_resnet_v2_stages(_BLOCKS[depth]))
        for depth in _BLOCKS
    },
    # Retrieval drops VGG's last max-pooling (Radenovic et al. 2018): twice the resolution for the same network.
    "vgg16": _of("VGG16", "caffe", last_layer="block5_conv3", notes="cut before the last max-pooling"),
    "vgg19": _of("VGG19", "caffe", last_layer="block5_conv4", notes="cut before the last max-pooling"),
    **{f"densenet{depth}": _of(f"DenseNet{depth}", "torch") for depth in (121, 169, 201)},
    "inception_v3": _inception("InceptionV3"),
    "inception_resnet_v2": _inception("InceptionResNetV2"),
    "xception": _of("Xception", "tf"),
    "nasnet_mobile": _nasnet("NASNetMobile", 224),
    "nasnet_large": _nasnet("NASNetLarge", 331),
    **{f"mobilenet_{alpha}": _of("MobileNet", "tf", alpha=alpha) for alpha in (0.25, 0.5, 0.75, 1.0)},
    **{
        f"mobilenet_v3_{size.lower()}": _of(f"MobileNetV3{size}", "none", notes=_SIGNED, include_preprocessing=True)
        for size in ("Small", "Large")
    },
    **{f"efficientnet_b{number}": _of(f"EfficientNetB{number}", "none", notes=_SIGNED) for number in range(8)},
    **{
        f"efficientnet_v2_{size}": _of(
            f"EfficientNetV2{size.upper()}", "none", notes=_SIGNED, include_preprocessing=True
        )
        for size in ("b0", "b1", "b2", "b3", "s", "m", "l")
    },
    **{
        f"convnext_{size.lower()}": _of(f"ConvNeXt{size}", "none", notes=_SIGNED, include_preprocessing=True)
        for size in ("Tiny", "Small", "Base", "Large", "XLarge")
    },
}
