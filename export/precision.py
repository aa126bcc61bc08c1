"""A network frozen for serving in one of three precisions: float32, bfloat16, int8."""

import hashlib
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from export.network_graph import NetworkGraph
from export.optimise import optimise
from tfretrieval.errors import InputError

FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
# What each precision does, for flags and cards.
PRECISIONS = {
    FLOAT32: "weights and arithmetic in float32",
    BFLOAT16: "convolutions and matrix products, and what lies between them, in bfloat16; the rest in float32",
    INT8: "weights of convolutions and matrix products stored in int8, a scale for each output channel; they become "
    "float32 again when the model is loaded, and the arithmetic is in float32",
}
# A SavedModel's graph is one protocol buffer, which may not exceed 2 GiB.
_CONSTANT_BYTES = 1 << 30


class FrozenNetwork(tf.Module):
    """A network with its variables frozen, BatchNorm folded and the graph optimised, in a precision.

    It takes the Keras model's place in a signature. Large weights are variables that nothing changes: a SavedModel
    stores them once, and so does a server. Those of bfloat16 are constants of the graph, where they take up no more
    than 1 GiB together: kernels of bfloat16 reorder weights, constants once and variables in every call. A ResNet-101
    describes one photo of 224 px in 41 ms instead of 67 ms, and takes 2.2 GB instead of 0.4 GB.

    Args:
        network: a Keras model or another callable of (images uint8 [n, h, w, 3], training) to [n, D].
        precision: one of `PRECISIONS`.

    Attributes:
        output_shape: (None, D).
        variables: none that a signature has to know of; those there are belong to this module.

    Raises:
        InputError: an unknown precision, or bfloat16 where TensorFlow rewrites nothing.
    """

    def __init__(self, network: keras.Model, precision: str = FLOAT32):
        super().__init__(name="frozen")
        if precision not in PRECISIONS:
            raise InputError(f"--precision={precision} is unknown; one of {', '.join(PRECISIONS)} is wanted.")
        graph = optimise(NetworkGraph.of(network), bfloat16=precision == BFLOAT16)
        if precision == BFLOAT16 and not graph.holds(tf.bfloat16):
            raise InputError(
                "--precision=bfloat16: TensorFlow rewrote nothing of the network; a build with oneDNN, as on x86, and "
                "a network with convolutions or matrix products are wanted."
            )
        self.output_shape, self.variables = (None, graph.dimension), ()
        self._function, self._handles = graph.function(), list(graph.handles.values())
        constant = precision == BFLOAT16 and sum(weight.nbytes for weight in graph.weights.values()) <= _CONSTANT_BYTES
        self._weights = [_held(weight, precision == INT8, constant) for weight in graph.weights.values()]
        spec = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
        # Traced here and once: a function that is first called before it is saved is traced again for the saving.
        self._describe = tf.function(self._run, autograph=False).get_concrete_function(spec)

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Describes photos: uint8 [n, h, w, 3] -> float32 [n, D]."""
        return self._describe(images)

    def on(self, device: str) -> "DeviceCopy":
        """Returns the network with weights of its own on a device: "GPU:1", say."""
        return DeviceCopy(self._function, self._weights, self._handles, self.output_shape, device)

    def _run(self, images: tf.Tensor) -> tf.Tensor:
        return _run(self._function, images, self._weights, self._handles, self.output_shape)


class DeviceCopy:
    """A frozen network on one device, as a callable of (images uint8 [n, h, w, 3], training) -> float32 [n, D]."""

    def __init__(self, function: Callable, weights: Sequence, handles: Sequence, output_shape: tuple, device: str):
        with tf.device(device):
            own = [each if isinstance(each, np.ndarray) else _variable(each.read_value()) for each in weights]
            held = [_variable(each) for each in handles]
            spec = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
            run = tf.function(lambda images: _run(function, images, own, held, output_shape), autograph=False)
            self._describe = run.get_concrete_function(spec)
        self.output_shape, self._device, self._own = output_shape, device, (own, held)

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Describes photos: uint8 [n, h, w, 3] -> float32 [n, D]."""
        with tf.device(self._device):
            return self._describe(images)


def _variable(value: tf.Tensor | tf.Variable) -> tf.Variable:
    return tf.Variable(value, trainable=False, name="weight")


def _run(
    function: Callable, images: tf.Tensor, weights: Sequence, handles: Sequence[tf.Variable], shape: tuple
) -> tf.Tensor:
    """Calls a network's graph with its weights, in the order in which they are fed."""
    values = [tf.constant(held) if isinstance(held, np.ndarray) else held.read_value() for held in weights]
    return tf.ensure_shape(function(images, *values, *(variable.handle for variable in handles)), shape)


class DequantisedWeight(tf.saved_model.experimental.TrackableResource):
    """A weight that a SavedModel stores as int8 and that is float32 once the model is loaded.

    The initialisation that TensorFlow Serving runs after loading multiplies values by scales. Its memory is named after
    its content: several models in one process share what is equal and nothing else.

    Args:
        values: int8 [..., C].
        scales: float32, of a shape that goes with `values`.
    """

    def __init__(self, values: np.ndarray, scales: np.ndarray):
        self._values, self._scales = values, scales
        content = hashlib.sha256(repr(values.shape).encode() + values.tobytes() + scales.tobytes())
        self._shared_name = f"dequantised_{content.hexdigest()}"
        super().__init__()
        self._initialize()

    def read_value(self) -> tf.Tensor:
        """Returns the weight, float32 [..., C]."""
        value = tf.raw_ops.ReadVariableOp(resource=self.resource_handle, dtype=tf.float32)
        return tf.ensure_shape(value, self._values.shape)

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=self._values.shape, shared_name=self._shared_name)

    def _initialize(self) -> None:
        value = tf.cast(tf.constant(self._values), tf.float32) * tf.constant(self._scales)
        tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=value)


def quantise(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds a weight to int8, symmetrically about 0: weight is about values * scales.

    Args:
        weight: float32 [..., C]; of depthwise convolutions [h, w, C, 1].

    Returns:
        int8 values in [-127, 127], and float32 scales, one for each output channel: [C], or [C, 1].
    """
    kept = 2 if weight.ndim > 2 and weight.shape[-1] == 1 else 1
    largest = np.abs(weight).max(axis=tuple(range(weight.ndim - kept)))
    scales = np.where(largest > 0, largest / np.float32(127), 1).astype(np.float32)
    return np.rint(weight / scales).clip(-127, 127).astype(np.int8), scales


def _held(weight: np.ndarray, int8: bool, constant: bool) -> np.ndarray | tf.Variable | DequantisedWeight:
    """Returns a weight in the form that the SavedModel stores."""
    if int8 and weight.dtype == np.float32 and weight.ndim > 1:
        return DequantisedWeight(*quantise(weight))
    return weight if constant else tf.Variable(weight, trainable=False, name="weight")
