"""Between TensorProto messages and NumPy arrays."""

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

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


def dtype_text(dtype: int) -> str:
    """Returns the name of a `DataType` the way TensorFlow's C++ messages write it: float, double, int64, string."""
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()


def shape_text(shape: tuple[int, ...]) -> str:
    """Returns a shape as `[2,3]`, the way the real server writes it."""
    return "[" + ",".join(map(str, shape)) + "]"
