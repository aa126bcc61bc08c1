"""A network's own graph, apart from its large weights: what export changes before it goes into a SavedModel."""

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from export.function_names import all_nodes, number_functions, rename

# Values up to this many elements (scales, offsets, statistics) are constants of the graph, where TensorFlow's optimiser
# folds them; larger ones stay outside: as constants they are copied a dozen times while a graph is optimised.
CONSTANT_ELEMENTS = 1 << 14
IMAGES = "images"


@dataclasses.dataclass(frozen=True)
class NetworkGraph:
    """A network as a graph.

    Attributes:
        definition: its nodes and functions.
        images: the input's tensor, "node:0": uint8 [n, h, w, 3].
        descriptors: the output's tensor, float32 [n, D].
        dimension: D.
        weights: large weights by the node that stands for each, a placeholder.
        handles: variables that the graph reads in ways that cannot be frozen (inside a branch, say), by their
            placeholder.
    """

    definition: graph_pb2.GraphDef
    images: str
    descriptors: str
    dimension: int
    weights: dict[str, np.ndarray]
    handles: dict[str, tf.Variable]

    @classmethod
    def of(cls, network: Callable) -> "NetworkGraph":
        """Traces a network for images of any sizes and freezes its variables.

        Args:
            network: a Keras model, or another callable of (images uint8 [n, h, w, 3], training) to [n, D].
        """

        def describe(images: tf.Tensor) -> tf.Tensor:
            return tf.cast(network(images, training=False), tf.float32)

        spec = tf.TensorSpec([None, None, None, 3], tf.uint8, name=IMAGES)
        traced = tf.function(describe, input_signature=[spec]).get_concrete_function()
        definition = traced.graph.as_graph_def()
        captured = dict(
            zip((tensor.op.name for tensor in traced.graph.internal_captures), traced.captured_inputs, strict=True)
        )
        variables = {id(variable.handle): variable for variable in traced.graph.variables}
        held = {name: variables[id(handle)] for name, handle in captured.items() if id(handle) in variables}
        for node in all_nodes(definition):
            node.attr.pop("_lower_using_switch_merge", None)  # branches stay functions, as inside a loop they have to
        weights = _freeze_reads(definition, held)
        number_functions(definition)
        used = {source.split(":")[0].lstrip("^") for node in definition.node for source in node.input}
        handles = {name: variable for name, variable in held.items() if name in used}
        kept = [node for node in definition.node if node.name not in held or node.name in handles]
        del definition.node[:]
        definition.node.extend(kept)
        output = traced.outputs[0]
        return cls(definition, traced.inputs[0].name, output.name, int(output.shape[-1]), weights, handles)

    @property
    def fed(self) -> tuple[str, ...]:
        """Tensors that a caller feeds: the images, the weights and the handles."""
        return self.images, *(f"{name}:0" for name in (*self.weights, *self.handles))

    def holds(self, dtype: tf.DType) -> bool:
        """Says whether a weight, a constant or a conversion in the graph is of a type."""
        kinds = [
            node.attr[key].type for node in all_nodes(self.definition) for key in ("dtype", "DstT") if key in node.attr
        ]
        return dtype.as_datatype_enum in kinds

    def function(self) -> Callable:
        """Returns the network as a function of the fed tensors, in their order, to float32 [n, D].

        Functions of the graph get names that no other graph's have, made of the graph's own content.
        """
        definition = _with_own_function_names(self.definition)
        wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(definition, name=""), [])
        fed = [wrapped.graph.get_tensor_by_name(name) for name in self.fed]
        specs = tuple(tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in fed)
        return wrapped.prune(fed, self.descriptors, input_signature=(specs, {}))


def _freeze_reads(definition: graph_pb2.GraphDef, held: dict[str, tf.Variable]) -> dict[str, np.ndarray]:
    """Makes reads of variables constants, and of large ones placeholders; returns the placeholders' values."""
    weights: dict[str, np.ndarray] = {}
    read: dict[str, str] = {}  # the placeholder of each large variable, of which there may be several reads
    for node in definition.node:
        if node.op != "ReadVariableOp" or node.input[0] not in held:
            continue
        handle, variable = node.input[0], held[node.input[0]]
        del node.input[:]
        node.attr.clear()
        dtype = variable.dtype.as_datatype_enum
        if variable.shape.num_elements() <= CONSTANT_ELEMENTS:
            node.op = "Const"
            node.attr["dtype"].type = dtype
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(variable.numpy()))
        elif handle in read:
            node.op = "Identity"
            node.input.append(read[handle])
            node.attr["T"].type = dtype
        else:
            node.op = "Placeholder"
            node.attr["dtype"].type = dtype
            node.attr["shape"].shape.CopyFrom(variable.shape.as_proto())
            read[handle] = node.name
            weights[node.name] = variable.numpy()
    return weights


def _with_own_function_names(definition: graph_pb2.GraphDef) -> graph_pb2.GraphDef:
    """Returns a copy whose functions are named after all that is in the graph.

    TensorFlow has one name space of functions in a process, and refuses two of one name that differ, as the functions
    of a graph do before and after it is optimised.
    """
    own = graph_pb2.GraphDef()
    own.CopyFrom(definition)
    digest = hashlib.sha256(definition.SerializeToString(deterministic=True)).hexdigest()[:16]
    rename(own, {each.signature.name: f"{each.signature.name}_{digest}" for each in own.library.function})
    return own
