"""Backbones of KerasHub. The library is imported when one of them is made, not before: it is slow to import."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from tfretrieval.backbones.entry import Backbone
from tfretrieval.backbones.swin import SwinMaps, quiet_masks
from tfretrieval.backbones.transformers import PatchTokens
from tfretrieval.layers.input_scaling import scale_pixels

# What makes two networks of a class different ones. All else, such as the size of photos, is as the preset has it.
_ARCHITECTURE = (
    *("patch_size", "hidden_dim", "num_layers", "num_heads", "mlp_dim", "intermediate_dim", "num_register_tokens"),
    *("use_gated_mlp", "use_swiglu_ffn", "embed_dim", "depths", "window_size", "activation"),
    *("block_type", "stackwise_num_filters", "stackwise_num_blocks", "stackwise_output_filters"),
)


def open_preset(name: str, class_name: str, config: dict) -> keras.Model:
    """Loads a network from a KerasHub preset.

    Args:
        name: of a built-in preset, a handle with its scheme (kaggle://, hf://), or a directory of `save_to_preset`.
        class_name: class of `keras_hub.models` that is wanted; of a two-tower SigLIP the vision tower is taken.
        config: arguments of the class; those that tell networks apart must be the preset's.

    Returns:
        The network with the preset's weights.

    Raises:
        ValueError: it is no preset, or one of another network. Failed downloads raise what the downloader raises.
    """
    import keras_hub

    wanted = getattr(keras_hub.models, class_name)
    known = {**wanted.presets, **(keras_hub.models.SigLIPBackbone.presets if "SigLIP" in class_name else {})}
    if not (Path(name).is_dir() or "://" in name or name in known):
        raise ValueError(f"it is neither a directory, a handle like kaggle://..., nor one of {', '.join(known)}")
    network = keras_hub.models.Backbone.from_preset(name)
    network = getattr(network, "vision_encoder", network)
    if not isinstance(network, wanted):
        raise ValueError(f"the preset is a {type(network).__name__} and a {class_name} is wanted")
    found = network.get_config()
    for key, value in config.items():
        if key in _ARCHITECTURE and _plain(found[key]) != _plain(value):
            raise ValueError(f"the preset was made with {key}={found[key]} and {key}={value} is wanted")
    return network


def _plain(value: object) -> object:
    return json.loads(json.dumps(value))


def preset_scaling(name: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Returns scale and offset of a preset's pixels, one of each per channel; None when it does not tell them."""
    import keras_hub

    if Path(name).is_dir():
        path = Path(name) / "image_converter.json"
        config = json.loads(path.read_text())["config"] if path.is_file() else {}
    else:
        config = keras_hub.layers.ImageConverter.from_preset(name).get_config()
    if config.get("scale") is None:
        return None

    def channels(value):
        return tuple(float(number) for number in (value if isinstance(value, list | tuple) else (value,) * 3))

    return channels(config["scale"]), channels(config.get("offset") or 0.0)


def preset_correction(name: str, mode: str) -> keras.layers.Rescaling | None:
    """Returns the layer from pixels scaled by a mode of `InputScaling` to those of a preset; None if they are equal.

    Args:
        name: see `open_preset`.
        mode: "tf" or "torch".
    """
    told = preset_scaling(name)
    if told is None:
        return None
    black, white = (np.asarray(scale_pixels(np.full(3, level), mode)) for level in (0.0, 255.0))
    factor = 255.0 * np.asarray(told[0]) / (white - black)
    summand = np.asarray(told[1]) - factor * black
    if np.allclose(factor, 1.0, atol=1e-3) and np.allclose(summand, 0.0, atol=1e-2):
        return None
    return keras.layers.Rescaling(factor.tolist(), summand.tolist(), name="preset_scaling")


def _of(class_name: str, config: dict, scaling: str, published: str | None, **facts) -> Backbone:
    """Makes the entry of a class of `keras_hub.models`."""

    def make(weights: str | None) -> keras.Model:
        import keras_hub

        with quiet_masks():
            if weights is not None:
                return open_preset(weights, class_name, config)
            return getattr(keras_hub.models, class_name)(**config)

    return Backbone(make, scaling, f"keras_hub.models.{class_name}", published=published, presets=True, **facts)


def flat(network: keras.Model) -> keras.Model:
    """Returns a convolutional network as a plain Keras model: it is saved and loaded without KerasHub."""
    return keras.Model(network.input, network.output, name=network.name)


def any_size(layer: type[keras.layers.Layer]) -> Callable[[keras.Model], keras.Model]:
    """Returns what puts a transformer into a layer that runs it on photos of any size."""

    def finish(network: keras.Model) -> keras.Model:
        pixels = keras.Input((None, None, 3))
        return keras.Model(pixels, layer(network, name="transformer")(pixels), name=network.name)

    return finish


def _resnet(blocks: tuple[int, ...], published: str | None, stem: tuple[int, ...], kind: str, notes: str) -> Backbone:
    config = {
        "input_conv_filters": list(stem),
        "input_conv_kernel_sizes": [7 if len(stem) == 1 else 3] * len(stem),
        "stackwise_num_filters": [64, 128, 256, 512],
        "stackwise_num_blocks": list(blocks),
        "stackwise_num_strides": [1, 2, 2, 2],
        "block_type": kind,
    }
    last = [f"stack3_block{number}_out" for number in range(blocks[3])]
    if len(last) == 2:  # ResNet-18 has two blocks there
        last, notes = ["stack3_block0_add", *last], f"{notes}; first of the three stages taken before its ReLU"
    stages = (f"stack2_block{blocks[2] - 1}_out", *last)
    return _of("ResNetBackbone", config, "torch", published, finish=flat, stages=stages, notes=notes)


_DEPTHS = {
    18: ((2, 2, 2, 2), "basic_block"),
    34: ((3, 4, 6, 3), "basic_block"),
    50: ((3, 4, 6, 3), "bottleneck_block"),
    101: ((3, 4, 23, 3), "bottleneck_block"),
    152: ((3, 8, 36, 3), "bottleneck_block"),
    200: ((3, 12, 48, 3), "bottleneck_block"),
}


def _resnet_v1_5(depth: int) -> Backbone:
    """Makes the ResNet of torchvision: padding on both sides, the stride of a bottleneck in its 3x3 convolution."""
    blocks, kind = _DEPTHS[depth]
    published = None if depth == 34 else f"resnet_{depth}_imagenet"
    return _resnet(blocks, published, (64,), kind, "torchvision's arithmetic")


def _resnet_vd(depth: int) -> Backbone:
    """Makes the ResNet-D of He et al., "Bag of Tricks", CVPR 2019: three 3x3 convolutions first, pooled shortcuts."""
    blocks, kind = _DEPTHS[depth]
    return _resnet(blocks, f"resnet_vd_{depth}_imagenet", (32, 32, 64), f"{kind}_vd", "ResNet-D")


def _transformer(
    class_name: str, scaling: str, published: str, side: int, patch: int, width: int, depth: int, heads: int, **config
) -> Backbone:
    config = {"hidden_dim": width, "num_layers": depth, "num_heads": heads, "image_shape": (side, side, 3), **config}
    config["patch_size"] = (patch, patch) if class_name == "ViTBackbone" else patch
    config.setdefault("mlp_dim" if class_name == "ViTBackbone" else "intermediate_dim", 4 * width)
    notes = f"signed patch tokens; positions of {side // patch} x {side // patch} resized to the photo's grid"
    if class_name == "DINOV3Backbone":
        notes = "signed patch tokens; rotary positions"
    return _of(class_name, config, scaling, published, finish=any_size(PatchTokens), notes=notes)


def _dino_v2(size: str, width: int, depth: int, heads: int, registers: int, **config) -> Backbone:
    published = f"dinov2_with_registers_{size}" if registers else f"dinov2_{size}"
    config |= {"num_register_tokens": registers, "position_embedding_shape": (518, 518)}
    config["antialias_in_interpolation"] = bool(registers)
    return _transformer("DINOV2Backbone", "torch", published, 518, 14, width, depth, heads, **config)


def _dino_v3(size: str, width: int, depth: int, heads: int, **config) -> Backbone:
    config = {"num_register_tokens": 4, "use_key_bias": False, "rope_theta": 100.0, **config}
    published = f"dinov3_vit_{size}_lvd1689m"
    return _transformer("DINOV3Backbone", "torch", published, 224, 16, width, depth, heads, **config)


def _swin(published: str, side: int, width: int, depth: int, heads: int, window: int) -> Backbone:
    config = {
        "image_shape": (side, side, 3),
        "embed_dim": width,
        "depths": (2, 2, depth, 2),
        "num_heads": tuple(heads * 2**stage for stage in range(4)),
        "window_size": window,
    }
    notes = "signed; windows padded as in the authors' detection code"
    return _of("SwinTransformerBackbone", config, "torch", published, finish=any_size(SwinMaps), notes=notes)


_EFFICIENTNET_LITE0 = {
    "stackwise_width_coefficients": [1.0] * 7,
    "stackwise_depth_coefficients": [1.0] * 7,
    "stackwise_squeeze_and_excite_ratios": [0] * 7,
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": [1, 2, 2, 3, 3, 4, 1],
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
    "stackwise_block_types": ["v1"] * 7,
    "min_depth": None,
    "use_depth_divisor_as_min_depth": True,
    "cap_round_filter_decrease": True,
    "dropout": 0,
    "activation": "relu6",
}
_DINO_V2_SIZES = {
    "small": (384, 12, 6, {}),
    "base": (768, 12, 12, {}),
    "large": (1024, 24, 16, {}),
    "giant": (1536, 40, 24, {"use_swiglu_ffn": True}),
}
_GATED = {"use_gated_mlp": True, "hidden_activation": "silu"}

HUB: dict[str, Backbone] = {
    **{f"resnet{depth}_v1_5": _resnet_v1_5(depth) for depth in (18, 34, 50, 101, 152)},
    **{f"resnet{depth}_vd": _resnet_vd(depth) for depth in (18, 34, 50, 101, 152, 200)},
    "efficientnet_lite0": _of(
        "EfficientNetBackbone", _EFFICIENTNET_LITE0, "torch", "efficientnet_lite0_ra_imagenet", finish=flat
    ),
    "vit_base_patch16": _transformer("ViTBackbone", "tf", "vit_base_patch16_224_imagenet", 224, 16, 768, 12, 12),
    "vit_base_patch32": _transformer("ViTBackbone", "tf", "vit_base_patch32_384_imagenet", 384, 32, 768, 12, 12),
    "vit_large_patch16": _transformer("ViTBackbone", "tf", "vit_large_patch16_224_imagenet", 224, 16, 1024, 24, 16),
    "vit_large_patch32": _transformer("ViTBackbone", "tf", "vit_large_patch32_384_imagenet", 384, 32, 1024, 24, 16),
    "vit_huge_patch14": _transformer("ViTBackbone", "tf", "vit_huge_patch14_224_imagenet21k", 224, 14, 1280, 32, 16),
    "swin_tiny": _swin("swin_tiny_patch4_window7_224", 224, 96, 6, 3, 7),
    "swin_small": _swin("swin_small_patch4_window7_224", 224, 96, 18, 3, 7),
    "swin_base": _swin("swin_base_patch4_window7_224", 224, 128, 18, 4, 7),
    "swin_base_window12": _swin("swin_base_patch4_window12_384", 384, 128, 18, 4, 12),
    "swin_large": _swin("swin_large_patch4_window7_224", 224, 192, 18, 6, 7),
    "swin_large_window12": _swin("swin_large_patch4_window12_384", 384, 192, 18, 6, 12),
    **{
        f"dinov2_{size}{'_registers' if registers else ''}": _dino_v2(size, width, depth, heads, registers, **extra)
        for registers in (0, 4)
        for size, (width, depth, heads, extra) in _DINO_V2_SIZES.items()
    },
    "dinov3_small": _dino_v3("small", 384, 12, 6),
    "dinov3_small_plus": _dino_v3("small_plus", 384, 12, 6, **_GATED),
    "dinov3_base": _dino_v3("base", 768, 12, 12),
    "dinov3_large": _dino_v3("large", 1024, 24, 16),
    "dinov3_huge_plus": _dino_v3("huge_plus", 1280, 32, 20, **_GATED),
    **{
        f"siglip_{name}": _transformer("SigLIPVisionEncoder", "tf", published, side, *sizes, **extra)
        for name, published, side, sizes, extra in (
            ("base_patch16", "siglip_base_patch16_224", 224, (16, 768, 12, 12), {}),
            ("base_patch32", "siglip2_base_patch32_256", 256, (32, 768, 12, 12), {}),
            ("large_patch16", "siglip_large_patch16_256", 256, (16, 1024, 24, 16), {}),
            ("so400m_patch14", "siglip_so400m_patch14_224", 224, (14, 1152, 27, 16), {"intermediate_dim": 4304}),
            ("so400m_patch16", "siglip2_so400m_patch16_256", 256, (16, 1152, 27, 16), {"intermediate_dim": 4304}),
            ("giant_patch16", "siglip2_giant_opt_patch16_256", 256, (16, 1536, 40, 16), {"intermediate_dim": 6144}),
        )
    },
}
