"""What TensorFlow's optimiser would do to a network at every load, done once: constants and BatchNorm folded, bfloat16.

TensorFlow Serving optimises whole signatures; a network inside the loop over a request's photos stays as it was written
there, and bfloat16 needs a flag of the server. Optimised before it goes into the signature, it needs neither.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2
from tensorflow.python.grappler import tf_optimizer

from export.network_graph import NetworkGraph

_Rewrites = rewriter_config_pb2.RewriterConfig
_CONVOLUTIONS = {"Conv2D", "DepthwiseConv2dNative", "MatMul"}


def optimise(network: NetworkGraph, bfloat16: bool = False) -> NetworkGraph:
    """Folds what does not depend on the images, and BatchNorm into the convolutions before it.

    Args:
        network: the network.
        bfloat16: let convolutions and matrix products, and what lies between them, compute in bfloat16, as TensorFlow's
            own rewrite for oneDNN chooses; their weights are bfloat16 then.

    Returns:
        The network that computes the same up to rounding.
    """
    folded = dataclasses.replace(network, definition=_rewritten(network))
    folded = _fold_scales(folded)
    folded = dataclasses.replace(folded, definition=_rewritten(folded, bfloat16))
    return _fold_casts(folded)


def _rewritten(network: NetworkGraph, bfloat16: bool = False) -> graph_pb2.GraphDef:
    """Returns a network's graph as TensorFlow's optimiser leaves it."""
    settings = config_pb2.ConfigProto()
    rewrites = settings.graph_options.rewrite_options
    rewrites.min_graph_nodes = -1  # small graphs too
    rewrites.meta_optimizer_iterations = _Rewrites.TWO
    rewrites.remapping = (
        _Rewrites.OFF
    )  # it makes operations that are TensorFlow's private ones; a server does it itself
    if bfloat16:
        rewrites.auto_mixed_precision_onednn_bfloat16 = _Rewrites.ON
    graph = meta_graph_pb2.MetaGraphDef()
    graph.graph_def.CopyFrom(network.definition)
    graph.collection_def["train_op"].node_list.value.extend([*network.fed, network.descriptors])
    return tf_optimizer.OptimizeGraph(settings, graph, verbose=False)


def _fold_scales(network: NetworkGraph) -> NetworkGraph:
    """Multiplies constant factors on the channels behind a convolution, BatchNorm's, into its weights.

    convolution(x, w) * c = convolution(x, w * c), with one factor for each channel; a constant that is added in between
    is multiplied too. TensorFlow's optimiser does the same where weights are constants of the graph and the convolution
    is not depthwise.
    """
    definition = graph_pb2.GraphDef()
    definition.CopyFrom(network.definition)
    links, weights = _Links(definition, network.descriptors), dict(network.weights)
    for node in list(definition.node):
        if node.op not in _CONVOLUTIONS or _is_transposed(node):
            continue
        kernel = node.input[1]
        weight = weights[kernel] if kernel in weights else links.constant(kernel)
        if weight is None or (kernel in weights and links.only_reader(kernel) is not node):
            continue
        # Of a depthwise convolution [h, w, C, M], each of whose C channels becomes M.
        shape = weight.shape[2:] if node.op == "DepthwiseConv2dNative" else weight.shape[-1:]
        found = _scale_behind(links, node, math.prod(shape))
        if found is None:
            continue
        added, scale, factors = found
        if added is not None:
            links.replace_constant(added, node, links.constant_beside(added, node, len(factors)) * factors)
        if kernel in weights:
            weights[kernel] = weight * factors.reshape(shape)
        else:
            links.replace_constant(node, links.node(node.input[0]), weight * factors.reshape(shape))
        _become_identity(scale, node.name if added is None else added.name)
    return dataclasses.replace(network, definition=definition, weights=weights)


def _scale_behind(
    links: "_Links", node: node_def_pb2.NodeDef, channels: int
) -> tuple[node_def_pb2.NodeDef | None, node_def_pb2.NodeDef, np.ndarray] | None:
    """Returns what adds a constant to a convolution, or None; what multiplies the result; and by which factors.

    None where no such multiplication follows, or others need what lies before it.
    """
    added, scale = None, links.only_reader(node.name)
    if (
        scale is not None
        and scale.op in ("BiasAdd", "AddV2")
        and links.constant_beside(scale, node, channels) is not None
    ):
        added, scale = scale, links.only_reader(scale.name)
    if scale is None or scale.op != "Mul":
        return None
    factors = links.constant_beside(scale, added or node, channels)
    return None if factors is None else (added, scale, factors)


def _fold_casts(network: NetworkGraph) -> NetworkGraph:
    """Stores weights in the type that all of their readers cast them to."""
    definition = graph_pb2.GraphDef()
    definition.CopyFrom(network.definition)
    links, weights = _Links(definition, network.descriptors), dict(network.weights)
    nodes = {node.name: node for node in definition.node}
    for name, value in weights.items():
        readers = links.readers(name)
        types = {reader.attr["DstT"].type if reader.op == "Cast" else None for reader in readers}
        if len(types) != 1 or None in types:
            continue
        (kind,) = types
        weights[name] = value.astype(tf.as_dtype(kind).as_numpy_dtype)
        nodes[name].attr["dtype"].type = kind
        for reader in readers:
            _become_identity(reader, name, kind)
    return dataclasses.replace(network, definition=definition, weights=weights)


class _Links:
    """Which nodes of a graph read which.

    Args:
        definition: the graph.
        output: the tensor that is the graph's result; what gives it has a reader that is no node.
    """

    def __init__(self, definition: graph_pb2.GraphDef, output: str):
        self._definition, self._output = definition, output.split(":")[0]
        self._nodes = {node.name: node for node in definition.node}
        self._readers: dict[str, list[node_def_pb2.NodeDef]] = {}
        for node in definition.node:
            for source in node.input:
                self._readers.setdefault(source.lstrip("^").split(":")[0], []).append(node)

    def readers(self, name: str) -> list[node_def_pb2.NodeDef]:
        """Returns the nodes that read a node, one that reads it twice twice."""
        return self._readers.get(name, [])

    def node(self, name: str) -> node_def_pb2.NodeDef:
        """Returns the node of a tensor's name."""
        return self._nodes[name.split(":")[0]]

    def constant(self, name: str) -> np.ndarray | None:
        """Returns the value of a constant, None where the name is another node's."""
        found = self._nodes.get(name)
        return tf.make_ndarray(found.attr["value"].tensor) if found is not None and found.op == "Const" else None

    def only_reader(self, name: str) -> node_def_pb2.NodeDef | None:
        """Returns the one node that reads a node, None where there is another number of readers."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and name != self._output else None

    def constant_beside(
        self, node: node_def_pb2.NodeDef, operand: node_def_pb2.NodeDef, channels: int
    ) -> np.ndarray | None:
        """Returns the other operand where it is a constant with a value for each channel or one for all.

        Returns:
            [channels], or None where it is something else.
        """
        others = [name for name in node.input if name != operand.name]
        value = self.constant(others[0]) if len(node.input) == 2 and len(others) == 1 else None
        if value is None:
            return None
        if value.size == 1 and value.ndim <= 1:
            return np.full(channels, value.reshape(()))
        # Of more axes than a convolution's result it would add one.
        fits = 1 <= value.ndim <= (2 if operand.op == "MatMul" else 4) and value.size == value.shape[-1] == channels
        return value.reshape(-1) if fits else None

    def replace_constant(self, node: node_def_pb2.NodeDef, operand: node_def_pb2.NodeDef, value: np.ndarray) -> None:
        """Gives a node another constant beside an operand."""
        name = f"{node.name}/scaled"
        constant = self._definition.node.add(name=name, op="Const")
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        constant.attr["dtype"].type = constant.attr["value"].tensor.dtype
        node.input[1 if node.input[0].split(":")[0] == operand.name else 0] = name


def _is_transposed(node: node_def_pb2.NodeDef) -> bool:
    """Says whether the last axis of a convolution's result, or of its weights, is not the channels'."""
    # An attribute that is looked up and missing is added to the node.
    transposed = "transpose_b" in node.attr and node.attr["transpose_b"].b
    return transposed or ("data_format" in node.attr and node.attr["data_format"].s == b"NCHW")


def _become_identity(node: node_def_pb2.NodeDef, source: str, kind: int | None = None) -> None:
    """Makes a node pass on a tensor; of its own type unless another is given."""
    kind = node.attr["T"].type if kind is None else kind
    del node.input[:]
    node.attr.clear()
    node.op, node.attr["T"].type = "Identity", kind
    node.input.append(source)
