"""What a network costs at one size of photos: floating-point operations and parameters, counted in its graph."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one output of a network costs beyond the outputs before it.

    Attributes:
        shape: the output's shape.
        flops: floating-point operations.
        parameters: numbers in the weights that are read.
    """

    shape: tuple[int, ...]
    flops: int
    parameters: int


def costs(function: Callable, shape: Sequence[int], variables: Iterable[keras.Variable] = ()) -> list[Cost]:
    """Counts what each of several outputs costs beyond the ones before it.

    A multiply-add is 2 operations, and only convolutions and matrix products are counted, as is usual: they are nearly
    all of a convolutional network's or a transformer's work. Additions of biases, normalisation, activations, pooling,
    and what lies inside loops and branches of the graph are not.

    Args:
        function: from a float32 tensor of `shape` to a list of tensors, written with TensorFlow or `keras.ops`.
        shape: the input's shape, known in every dimension; nothing is computed, so memory does not grow with it.
        variables: the weights that may be read.

    Returns:
        A cost for each output, in order.
    """
    graph_function = tf.function(function).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    sizes = {id(variable.value.handle): math.prod(variable.shape) for variable in variables}
    captured = {inside.op: sizes.get(id(outside), 0) for outside, inside in graph_function.graph.captures}
    seen, found = set(), []
    for output in graph_function.outputs:
        new = _new_operations(output.op, seen)
        flops = sum(operation_flops(op) for op in new)
        found.append(Cost(tuple(output.shape), flops, sum(captured.get(op, 0) for op in new)))
    return found


def _new_operations(last: tf.Operation, seen: set) -> list[tf.Operation]:
    """Returns an operation and all that it depends on, less what was seen before, and adds them to `seen`."""
    waiting, new = [last], []
    while waiting:
        op = waiting.pop()
        if op not in seen:
            seen.add(op)
            new.append(op)
            waiting.extend(tensor.op for tensor in op.inputs)
    return new


def operation_flops(op: tf.Operation) -> int:
    """Returns the floating-point operations of a convolution or matrix product; 0 for any other operation.

    The number of multiply-adds of one output entry is the kernel's height x width x input channels of one group, or the
    length of the summed dimension.
    """
    if op.type in ("PartitionedCall", "StatefulPartitionedCall"):  # Keras's grouped convolutions on a CPU
        body = op.graph._get_function(op.get_attr("f").name).graph
        return sum(operation_flops(inner) for inner in body.get_operations())
    if op.type == "Einsum":
        return 2 * math.prod(_einsum_sizes(op).values())
    if op.type not in _SUMMED:
        return 0
    return 2 * math.prod(op.outputs[0].shape) * _SUMMED[op.type](op)


def _summed_length(transposed: str) -> Callable[[tf.Operation], int]:
    return lambda op: op.inputs[0].shape[-2 if op.get_attr(transposed) else -1]


# Operation type -> multiply-adds of one entry of its output.
_SUMMED = {
    "Conv2D": lambda op: math.prod(op.inputs[1].shape[:3]),
    "DepthwiseConv2dNative": lambda op: math.prod(op.inputs[1].shape[:2]),
    "MatMul": _summed_length("transpose_a"),
    "BatchMatMul": _summed_length("adj_x"),
    "BatchMatMulV2": _summed_length("adj_x"),
    "BatchMatMulV3": _summed_length("adj_x"),
}


def _einsum_sizes(op: tf.Operation) -> dict:
    """Returns the length of every dimension that an einsum of two tensors runs over, by its letter."""
    letters = op.get_attr("equation").decode().split("->")[0].split(",")
    if len(letters) != 2:
        return {"": 0}  # one tensor: a transposition or a sum
    sizes = {}
    for term, tensor in zip(letters, op.inputs, strict=True):
        before, dots, after = term.partition("...")
        rank = len(tensor.shape)
        shared = [f"...{number}" for number in range(rank - len(before) - len(after), 0, -1)] if dots else []
        for letter, length in zip([*before, *shared, *after], tensor.shape, strict=True):
            sizes[letter] = max(length, sizes.get(letter, 0))
    return sizes
