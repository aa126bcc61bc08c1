"""Between TensorProto messages and NumPy arrays."""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

_POINTER_BYTES = 8

# The real server answers in these typed fields, not in `tensor_content`; clients must see the same.
_VALUE_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int8: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}


def to_proto(value: object, dtype: tf.DType) -> tensor_pb2.TensorProto:
    """Returns a tensor message of an array of any shape; string arrays hold `bytes` objects."""
    field = _VALUE_FIELDS.get(dtype)
    if field is None:
        return tf.make_tensor_proto(value, dtype)
    array = np.asarray(value, object if dtype == tf.string else dtype.as_numpy_dtype)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, field).extend(array.ravel().tolist())
    return proto


def from_proto(proto: tensor_pb2.TensorProto, most_bytes: int) -> np.ndarray:
    """Returns the array of a tensor message; strings as `bytes` objects.

    A message may hold fewer values than its shape has, of which the last stands for the others. So some bytes can ask
    for any amount of memory, and what they stand for is limited before anything is made of them.

    Args:
        proto: the message, of a dtype that TensorFlow knows.
        most_bytes: bytes that the array, or the strings in it with their pointers, may have.

    Raises:
        ValueError: the message contradicts itself, has a negative size, or stands for more than `most_bytes`.
    """
    dtype, sizes = tf.as_dtype(proto.dtype), [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
        raise ValueError("the shape is not known")
    count, value = math.prod(sizes), dtype.size or 1
    if dtype == tf.string:
        value = _POINTER_BYTES + (len(proto.string_val[-1]) if proto.string_val else 0)
    if count * value > most_bytes and (dtype != tf.string or count > len(proto.string_val)):
        raise ValueError(f"{count} values stand for more than {most_bytes} bytes")
    try:
        return np.asarray(tf.make_ndarray(proto))
    except (TypeError, KeyError, OverflowError) as error:  # of dtypes without arrays; numbers that do not fit
        raise ValueError(str(error)) from error


def dtype_text(dtype: int) -> str:
    """Returns the name of a `DataType` the way TensorFlow's C++ messages write it: float, double, int64, string."""
    if dtype not in types_pb2.DataType.values():
        return f"unknown dtype enum ({dtype})"
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()


def shape_text(shape: tuple[int, ...]) -> str:
    """Returns a shape as `[2,3]`, the way the real server writes it."""
    return "[" + ",".join(map(str, shape)) + "]"
