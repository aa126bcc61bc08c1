"""A descriptor network as a readable table: its parts, what they give, and what they cost."""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

import keras

from tfretrieval import layers
from tfretrieval.errors import InputError
from tfretrieval.layers.multi_scale import resize
from tfretrieval.models.flops import Cost, costs


@dataclasses.dataclass(frozen=True)
class Part:
    """A row of the table.

    Attributes:
        name: what it is.
        detail: its settings and learnt values.
        cost: the shape it gives to one photo, its parameters and operations; with several scales, the
            shape at the first and the operations of all.
    """

    name: str
    detail: str
    cost: Cost


def parse_size(text: str) -> tuple[int, int]:
    """Reads a size written as WIDTHxHEIGHT, "1024x768" say.

    Returns:
        Height and width in pixels.

    Raises:
        InputError: it is something else.
    """
    found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if not found:
        raise InputError(f"--size={text}; WIDTHxHEIGHT in pixels, 1024x768 say, is wanted.")
    return int(found[2]), int(found[1])


def summarise(model: keras.Model, height: int, width: int) -> list[Part]:
    """Lists the parts of a descriptor network in order, a backbone by the strides of its maps.

    A stage of a backbone ends with the last layer of its stride that all that follows depends on. It therefore holds
    the beginning of the next one's first block where that block has no short-cut around it, as in MobileNetV2.

    Args:
        model: a network of `build_descriptor`, `add_scales` or `add_whitening`.
        height: of a photo in pixels.
        width: of a photo in pixels.

    Returns:
        The parts. Their parameters sum up to those of the network, unless weights are read by no part, and their
        operations (see `costs`) to those of describing one photo.
    """
    nodes = _nodes(model)
    found = _costs_after(model, nodes, (1, height, width, 3))
    parts, shape = [], (1, height, width, 3)
    for node, cost in zip(nodes, found, strict=True):
        layer = node.operation
        if isinstance(layer, layers.MultiScale):
            parts += _scaled_parts(layer, height, width, cost)
        elif isinstance(layer, keras.Model):
            parts += _stages(layer, shape)
        else:
            parts.append(Part(_name(layer), _detail(layer), cost))
        shape = cost.shape
    return parts


def table(parts: Sequence[Part]) -> list[str]:
    """Returns lines of a table of parts, with a line of sums."""
    rows = [("part", "output", "parameters", "GFLOPs", "")]
    rows += [_row(part.name, _shape(part.cost.shape), part.cost, part.detail) for part in parts]
    parameters, flops = (sum(getattr(part.cost, name) for part in parts) for name in ("parameters", "flops"))
    rows.append(_row("sum", "", Cost((), flops, parameters), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    ]
    rule = "-" * (sum(widths[:4]) + 6)
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]


def _row(name: str, shape: str, cost: Cost, detail: str) -> tuple[str, ...]:
    parameters = f"{cost.parameters:,}" if cost.parameters else "-"
    flops = "-" if not cost.flops else f"{cost.flops / 1e9:.3f}" if cost.flops >= 5e5 else "< 0.001"
    return name, shape, parameters, flops, detail


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape[1:])


def _nodes(model: keras.Model) -> list:
    """Returns the applications of layers in a functional model, inputs left out, each after what it depends on."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if node.input_tensors]


def _costs_after(model: keras.Model, nodes: Sequence, shape: tuple[int, ...]) -> list[Cost]:
    """Returns what each of some nodes of a model costs beyond the nodes before it."""
    traced = keras.Model(model.input, [node.output_tensors[0] for node in nodes])
    return costs(lambda photos: traced(photos, training=False), shape, model.variables)


def _stages(backbone: keras.Model, shape: tuple[int, ...]) -> list[Part]:
    """Returns a part for each stride of a backbone's maps, and one for each layer of attention inside it."""
    nodes = _nodes(backbone)
    found = _costs_after(backbone, nodes, shape)
    necks = [place for place in _necks(nodes) if len(found[place].shape) == 4]
    strides = [round(math.log2(max(1.0, shape[1] / found[place].shape[1]))) for place in necks]
    parts, start = [], 0
    for place, stride, following in zip(necks, strides, [*strides[1:], math.inf], strict=True):
        inside = range(start, place + 1)
        units = [at for at in inside if nodes[at].operation.name.startswith("attention")]
        own = [at for at in inside if at not in units]
        flops, parameters = (sum(getattr(found[at], name) for at in own) for name in ("flops", "parameters"))
        if following > stride and (flops or following == math.inf):
            stage = Cost(found[place].shape, flops, parameters)
            rows = {at: Part(_name(nodes[at].operation), "", found[at]) for at in units}
            if own:
                rows[own[-1]] = Part(f"backbone, stride {2**stride}", f"to {nodes[own[-1]].operation.name}", stage)
            parts += [rows[at] for at in sorted(rows)]
            start = place + 1
    return parts


def _necks(nodes: list) -> Iterator[int]:
    """Yields the places of the nodes whose output is all that the nodes after them read."""
    last_reader = {}
    for place, node in enumerate(nodes):
        last_reader |= {id(tensor): place for tensor in node.input_tensors}
    open_until = max(last_reader[id(tensor)] for tensor in nodes[0].input_tensors)
    for place, node in enumerate(nodes):
        if open_until <= place and not isinstance(node.operation, keras.layers.ZeroPadding2D):
            yield place
        open_until = max([open_until, *(last_reader.get(id(tensor), place) for tensor in node.output_tensors)])


def _scaled_parts(layer: layers.MultiScale, height: int, width: int, cost: Cost) -> list[Part]:
    """Returns the parts of the network that several scales share, and one for resizing and combining."""
    photos = (1, height, width, 3)
    resized = [costs(lambda x, s=s: [resize(x, s, layer.antialias)], photos)[0] for s in layer.scales]
    each = [summarise(layer.network, *at.shape[1:3]) for at in resized]
    parts = [
        dataclasses.replace(
            same[0], cost=dataclasses.replace(same[0].cost, flops=sum(part.cost.flops for part in same))
        )
        for same in zip(*each, strict=True)
    ]
    own = Cost(cost.shape, sum(at.flops for at in resized), 0)
    return [*parts, Part(_name(layer), _detail(layer), own)]


def _name(layer) -> str:
    if isinstance(layer, keras.layers.UnitNormalization):
        return "L2"
    kind = "" if isinstance(layer, keras.layers.Dense) or type(layer).__name__ in _NAMED else type(layer).__name__
    return " ".join([layer.name.replace("_", " "), *([kind] if kind else [])])


# Layers whose own name in the network says what they are.
_NAMED = ("InputScaling", "MinimumSize", "MultiScale")


def _detail(layer) -> str:
    """Returns the settings and learnt values of a layer that a reader of the table wants to know."""
    if isinstance(layer, layers.MultiScale):
        return f"{', '.join(f'{scale:g}' for scale in layer.scales)}; power {layer.power:.4g}"
    if isinstance(layer, layers.InputScaling):
        return layer.mode
    if isinstance(layer, layers.MinimumSize):
        return f"{layer.side} pixels"
    if isinstance(layer, keras.layers.Dense):
        return f"{layer.kernel.shape[0]} to {layer.units} dimensions{'' if layer.use_bias else ', no bias'}"
    return _exponent(layer.p) if hasattr(layer, "p") else ""


def _exponent(variable: keras.Variable) -> str:
    values, kind = keras.ops.convert_to_numpy(variable), "learnt" if variable.trainable else "fixed"
    if values.ndim == 0:
        return f"p = {values:.4g}, {kind}"
    return f"p of {values.size} channels = {values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}, {kind}"
