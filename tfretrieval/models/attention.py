"""Attention inside a backbone: AGeM's units between its last stages, or SOLAR's blocks after them."""

import dataclasses
from collections.abc import Callable

import keras

from tfretrieval.errors import InputError
from tfretrieval.layers.agem import DownsamplingAttention, PointwiseAttention
from tfretrieval.layers.merge_attention import MERGES, MergeAttention
from tfretrieval.layers.multi_scale import MultiScale
from tfretrieval.layers.second_order_attention import SecondOrderAttention

ATTENTIONS = ("none", "agem", "second_order")
WIRINGS = ("chain", "gates")
SECOND_ORDER_LAYERS = ("4", "5", "45")

# SOLAR's code: the channels are divided by 4 after conv4 and by 2 after conv5.
_SOLAR_REDUCTIONS = {"4": 4, "5": 2}
_UNITS = (DownsamplingAttention, PointwiseAttention, SecondOrderAttention)


@dataclasses.dataclass(frozen=True)
class AttentionConfig:
    """Which attention a backbone gets.

    Attributes:
        attention: attention inside the backbone: agem (three units between its last stages) or second_order (SOLAR).
        attention_wiring: what agem's second and third unit read: chain is the attention before, gates the gated maps.
        final_merge: how agem's last attention A and the last maps F are put together: add is F + A, residual_mul is
            F (1 + A), mul is F A.
        gate_bias: initial bias of agem's first two sigmoids; above 0 the network begins nearer to the one without them.
        final_bias: initial bias of agem's last sigmoid; below 0 the network begins nearer to the one without it under
            add and residual_mul, above 0 under mul.
        attention_layers: stages that second_order follows: 4 (stride 16), 5 (the last), or 45 (both, as in SOLAR).
    """

    attention: str = dataclasses.field(default="none", metadata={"choices": ATTENTIONS})
    attention_wiring: str = dataclasses.field(default="chain", metadata={"choices": WIRINGS})
    final_merge: str = dataclasses.field(default="add", metadata={"choices": MERGES})
    gate_bias: float = 0.0
    final_bias: float = 0.0
    attention_layers: str = dataclasses.field(default="45", metadata={"choices": SECOND_ORDER_LAYERS})


def attend(backbone: keras.Model, stages: tuple[str, ...], config: AttentionConfig) -> keras.Model:
    """Puts attention into a backbone.

    "agem" is Gu, Li, Xie, "Attention-based Generalized Mean Pooling", arXiv 1811.00202. With x4 the maps before the
    last stage (conv4 of ResNet, stride 16), R1, R2, R3 the steps of the last stage (conv5's bottlenecks), and
    G1 = R1(x4) * Att1(x4),

        chain   A1 = Att1(x4), A2 = Att2_1(A1), A3 = Att2_2(A2);  G2 = R2(G1) * A2;  out = R3(G2) merged with A3
        gates   G2 = R2(G1) * Att2_1(G1);  out = R3(G2) merged with Att2_2(G2)

    Established, by a reader's notes: the layers of the three units, the products, and the addition at the end
    (`final_merge="add"`). Inferred: both wirings (the paper's figure could not be read; a chain whose units read the
    maps is the same as gates), the channels of Att2, and the place of the units. This toolkit's: the other merges, the
    biases, and stages that differ in channels, where an Att2 unit has as many outputs as the maps it is put together
    with; on ResNet that is the paper's "in = out".

    "second_order" is SOLAR (see `SecondOrderAttention`), which freezes what lies before its blocks; it begins as the
    identity.

    All variables of attention are in layers named "attention_...", see `attention_variables`; these layers' BatchNorms
    begin without statistics, whatever the backbone's do.

    Args:
        backbone: a functional model [N, H, W, 3] -> [N, h, w, C].
        stages: names of its layers that give x4, R1, R2 and R3, the last being its output; `Backbone.stages`. R1 to R3
            have half of x4's sizes. May be empty for "none", and for "second_order" after the last stage alone.
        config: which attention, and how.

    Returns:
        A model like the backbone that shares its layers and weights; the backbone itself for "none". A shared layer's
        `.output` stays the one in the backbone; take a model's tensors from a model that was saved and loaded.

    Raises:
        InputError: an unknown choice, a backbone without the stages, or stages that do not fit.
    """
    for field in dataclasses.fields(config):
        value, choices = getattr(config, field.name), field.metadata.get("choices")
        if choices and value not in choices:
            raise InputError(f"--{field.name}={value} is unknown; one of {', '.join(choices)} is wanted.")
    if config.attention == "none":
        return backbone
    if config.attention == "second_order":
        return _attend_second_order(backbone, _checked(backbone, stages, config), config)
    return _attend_agem(backbone, _checked(backbone, stages, config), config)


def attention_variables(model: keras.Model) -> list:
    """Returns the trainable variables of a model's attention, nested models included; empty without attention."""
    units = [layer for layer in model._flatten_layers() if isinstance(layer, _UNITS)]
    return [variable for unit in units for variable in unit.trainable_variables]


def attention_maps(model: keras.Model) -> keras.Model:
    """Makes a model of the attention that a network pays to photos, to draw.

    Args:
        model: a model of `attend`, or a descriptor network with one inside. Of a network with several scales, the
            attention at the photo's own size is given.

    Returns:
        A model of what `model` takes -> a dictionary of float32 tensors by layer. For agem "attention_1",
        "attention_2_1" and "attention_2_2", [N, h, w, C] in (0, 1); for second_order "attention_4" and "attention_5"
        as there are, [N, hw, hw], rows of sum 1: row i is what position i (row by row) takes from each position.

    Raises:
        InputError: the model has no attention.
    """
    for layer in model.layers:
        if isinstance(layer, MultiScale):
            return attention_maps(layer.network)
    found = {}

    def call(layer, *args, **kwargs):
        if isinstance(layer, keras.Model) and any(isinstance(inner, _UNITS) for inner in layer._flatten_layers()):
            found.update(attention_maps(layer)(*args))
        outputs = layer(*args, **kwargs)
        if isinstance(layer, _UNITS):
            found[layer.name] = _Scores(layer)(*args) if isinstance(layer, SecondOrderAttention) else outputs
        return outputs

    inputs = _applied_again(model, call).input
    if not found:
        raise InputError(f"the network {model.name} has no attention; one made with --attention is wanted.")
    return keras.Model(inputs, found, name="attention_maps")


class _Scores(keras.layers.Layer):
    """The scores of a second-order block, in a place of its own: a Keras layer has one number of outputs."""

    def __init__(self, block: SecondOrderAttention):
        super().__init__(dtype=block.dtype_policy, name=f"{block.name}_scores")
        self.block = block

    def call(self, inputs):
        return self.block.scores(inputs)


def _checked(backbone: keras.Model, stages: tuple[str, ...], config: AttentionConfig) -> tuple[str, ...]:
    """Returns the stages if the backbone has what the attention needs."""
    names = [layer.name for layer in backbone.layers]
    if missing := [name for name in stages if name not in names]:
        raise InputError(f"the backbone {backbone.name} has no layer {missing[0]} for attention to be put after.")
    places = [names.index(name) for name in stages]
    if places != sorted(set(places)):
        raise InputError(f"the stages are {', '.join(stages)}; layers of {backbone.name} in their order are wanted.")
    if len(stages) != 4 and config.attention == "agem":
        raise InputError(
            f"--attention=agem needs a backbone with stages of stride 16 and 32, and {backbone.name} has none; "
            "a ResNet or a MobileNetV2 is wanted, or --attention=second_order --attention_layers=5."
        )
    if not stages and "4" in config.attention_layers and config.attention == "second_order":
        raise InputError(
            f"--attention_layers={config.attention_layers} needs a backbone with a stage of stride 16, and "
            f"{backbone.name} has none; --attention_layers=5 is wanted."
        )
    return stages


def _attend_second_order(backbone: keras.Model, stages: tuple[str, ...], config: AttentionConfig) -> keras.Model:
    def block(number: str) -> SecondOrderAttention:
        return SecondOrderAttention(_SOLAR_REDUCTIONS[number], name=f"attention_{number}")

    model = _rewired(backbone, {stages[0]: block("4")} if "4" in config.attention_layers else {})
    if "5" not in config.attention_layers:
        return model
    return keras.Model(model.input, block("5")(model.output), name=backbone.name)


def _attend_agem(backbone: keras.Model, stages: tuple[str, ...], config: AttentionConfig) -> keras.Model:
    chain = config.attention_wiring == "chain"
    channels = [backbone.get_layer(name).output.shape[-1] for name in stages]
    units = [
        DownsamplingAttention(
            channels[1], _stride_padding(backbone, *stages[:2]), bias=config.gate_bias, name="attention_1"
        ),
        PointwiseAttention(channels[2], bias=config.gate_bias, name="attention_2_1"),
        PointwiseAttention(channels[3], bias=config.final_bias, name="attention_2_2"),
    ]
    merges = [MergeAttention(how, name=f"merge_{n}") for n, how in enumerate(("mul", "mul", config.final_merge), 1)]
    read = {}  # what the next unit reads

    def begin(maps):
        read["next"] = maps
        return maps

    def step(unit, merge):
        def merged(maps):
            attention = unit(read["next"])
            together = merge(maps, attention)
            read["next"] = attention if chain else together
            return together

        return merged

    steps = [step(unit, merge) for unit, merge in zip(units, merges, strict=True)]
    try:
        model = _rewired(backbone, dict(zip(stages, [begin, *steps], strict=True)))
        # Sizes that nothing fixed before: a stage of stride 16 has 6 x 7 positions of this photo.
        _, height, width, depth = backbone.input_shape
        model.compute_output_shape((1, height or 96, width or 112, depth))
    except ValueError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"--attention=agem does not fit the stages {', '.join(stages)}: {reason}") from error
    return model


def _rewired(backbone: keras.Model, after: dict[str, Callable]) -> keras.Model:
    """Returns a model of the backbone's layers with functions applied to the outputs of the named ones."""

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        return after[layer.name](outputs) if layer.name in after else outputs

    return _applied_again(backbone, call)


def _applied_again(model: keras.Model, call: Callable) -> keras.Model:
    """Returns a functional model that applies the same layers to new inputs through `call(layer, *args, **kwargs)`."""
    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def _stride_padding(backbone: keras.Model, before: str, after: str):
    """Finds the padding with which a 3x3 convolution of stride 2 has the sizes and centres of a stage's own stride.

    Keras's networks pad in three ways: both sides alike (ResNet), the far side only (MobileNet), or "same".

    Returns:
        ((top, bottom), (left, right)) or "same".

    Raises:
        InputError: the stage has no convolution or pooling of stride 2.
    """
    names = [layer.name for layer in backbone.layers]
    between = [
        inner
        for layer in backbone.layers[names.index(before) + 1 : names.index(after) + 1]
        for inner in layer._flatten_layers()
    ]
    windows = {layer: getattr(layer, "kernel_size", getattr(layer, "pool_size", None)) for layer in between}
    strided = [layer for layer, window in windows.items() if window and tuple(layer.strides) == (2, 2)]
    if not strided:
        raise InputError(f"--attention=agem wants a stage of stride 2 between {before} and {after}; there is none.")
    # Pooling and 1x1 convolutions are on short-cuts, whose places those of the widest convolution are chosen to meet.
    layer = max(strided, key=lambda layer: (hasattr(layer, "kernel_size"), windows[layer]))
    if layer.padding == "same" and max(windows[layer]) > 1:
        return "same"
    padded = {id(pad.output): pad.padding for pad in between if isinstance(pad, keras.layers.ZeroPadding2D)}
    pads = padded.get(id(layer.input), ((0, 0), (0, 0)))
    return tuple(_padding_of_three(pad, size) for pad, size in zip(pads, windows[layer], strict=True))


def _padding_of_three(pad: tuple[int, int], size: int) -> tuple[int, int]:
    """Returns the padding of a window of 3 that has the number and centres of windows of `size` with padding `pad`."""
    first = pad[0] + 1 - size // 2
    return first, sum(pad) + 3 - size - first
