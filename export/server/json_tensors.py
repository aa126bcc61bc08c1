"""The REST API's JSON: request bodies to Predict requests, Predict responses to bodies.

Rules of the real server: `instances` is a list of rows, `inputs` one column an input; with a single input the name is
left out; `{"b64": "..."}` stands for bytes; string outputs named `*_bytes` come back in that form.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from export.server.errors import StatusError, invalid
from export.server.tensors import dtype_text, shape_text, to_proto

Infos = Mapping[str, meta_graph_pb2.TensorInfo]

_JSON_TYPES = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
_MAX_RANK = 32  # of NumPy's arrays
# Whole numbers above these have no exact float.
_EXACT_WHOLE = {tf.float32: 2**24 - 1, tf.float64: 2**53 - 1}


def parse_predict(body: bytes, input_infos: Callable[[str], Infos], request: predict_pb2.PredictRequest) -> bool:
    """Fills the signature name and inputs of a Predict request from a JSON body.

    Args:
        body: the JSON text.
        input_infos: gives the inputs of a signature by alias; may raise `StatusError`.
        request: filled in place; its model is set already.

    Returns:
        True for the row format (`instances`), False for the column format (`inputs`).

    Raises:
        StatusError: INVALID_ARGUMENT, with what is wrong and in which row.
    """
    try:
        return _fill(_parse(body), input_infos, request)
    except RecursionError as error:
        raise invalid("JSON Parse error: the document is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise invalid("JSON Parse error: a string holds half of a surrogate pair") from error


def _fill(document: dict, input_infos: Callable[[str], Infos], request: predict_pb2.PredictRequest) -> bool:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_text(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    request.model_spec.signature_name = name
    infos = input_infos(name)
    if not infos:
        raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    rows, columns = "instances" in document, "inputs" in document
    if rows and columns:
        raise invalid(
            f"JSON Value: {_text(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if not rows and not columns:
        raise invalid("Missing 'inputs' or 'instances' key")
    arrays = _from_rows(document, infos) if rows else _from_columns(document["inputs"], infos)
    for alias, array in arrays.items():
        request.inputs[alias].CopyFrom(to_proto(array, tf.as_dtype(infos[alias].dtype)))
    return rows


def render_predict(response: predict_pb2.PredictResponse, rows: bool) -> str:
    """Returns a Predict response as JSON, in the format of its request.

    Raises:
        StatusError: INVALID_ARGUMENT when the outputs cannot be cut into rows, or have a dtype JSON has no words for.
    """
    outputs = {alias: response.outputs[alias] for alias in sorted(response.outputs)}
    arrays = {alias: tf.make_ndarray(proto) for alias, proto in outputs.items()}
    if rows:
        _check_rows(arrays)
    values = {alias: _values(alias, array, tf.as_dtype(outputs[alias].dtype)) for alias, array in arrays.items()}
    if len(values) == 1:
        (told,) = values.values()
    elif rows:
        told = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    else:
        told = values
    return json.dumps({"predictions" if rows else "outputs": told})


def _parse(body: bytes) -> dict:
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except ValueError as error:  # no Unicode text, or a number of thousands of digits
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_text(document)} Is not object")
    return document


def _from_rows(document: dict, infos: Infos) -> dict[str, np.ndarray]:
    instances = document["instances"]
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: {_text(document)} Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid(f"JSON Value: {_text(document)} No values in 'instances' array")
    if not isinstance(instances[0], dict) and len(infos) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    named = _is_object(instances[0])
    cells: dict[str, list[np.ndarray]] = {}
    for place, element in enumerate(instances):
        if named != _is_object(element):
            wanted, got = ("object", "list") if named else ("value/list", "object")
            raise invalid(f"Expecting {wanted} but got {got} at item {place} of input list")
        for alias, value in (element if named else {next(iter(infos)): element}).items():
            try:
                _add_cell(cells, alias, value, infos)
            except StatusError as error:
                key = f" key: {alias}" if named else ""
                raise invalid(
                    f"Failed to process element: {place}{key} of 'instances' list. "
                    f"Error: {error.code.name}: {error.message}"
                ) from error
        if named and element.keys() != infos.keys():
            raise invalid(
                f"Failed to process element: {place} of 'instances' list. JSON object: {_text(element)} "
                f"keys must be equal to: {','.join(sorted(infos))}"
            )
    return {alias: np.stack(column) for alias, column in cells.items()}


def _add_cell(cells: dict[str, list[np.ndarray]], alias: str, value: object, infos: Infos) -> None:
    if alias not in infos:
        raise invalid(f"JSON object: does not have named input: {alias}")
    array = _array(value, infos[alias])
    column = cells.setdefault(alias, [])
    if column and column[0].size != array.size:
        raise invalid(f"Expecting tensor size: {column[0].size} but got: {array.size}")
    if column and column[0].shape != array.shape:
        raise invalid(f"Expecting shape {shape_text(column[0].shape)} but got: {shape_text(array.shape)}")
    column.append(array)


def _from_columns(inputs: object, infos: Infos) -> dict[str, np.ndarray]:
    if not _is_object(inputs):
        if len(infos) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        (alias,) = infos
        return {alias: _array(inputs, infos[alias])}
    for alias in infos:
        if alias not in inputs:
            raise invalid(f"Missing named input: {alias} in 'inputs' object.")
    return {alias: _array(inputs[alias], info) for alias, info in infos.items()}


def _array(value: object, info: meta_graph_pb2.TensorInfo) -> np.ndarray:
    """Returns nested lists as an array; the first element of each list tells the shape, as in the real server."""
    dtype = tf.as_dtype(info.dtype)
    shape, inner = [], value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    if len(shape) > _MAX_RANK:
        raise invalid(f"Encountered lists in {len(shape)} levels; at most {_MAX_RANK} are read")
    flat: list[object] = []
    _flatten(value, 0, shape, dtype, flat)
    array = np.empty(len(flat), object if dtype == tf.string else dtype.as_numpy_dtype)
    array[:] = flat
    return array.reshape(shape)


def _flatten(value: object, level: int, shape: list[int], dtype: tf.DType, flat: list[object]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {_text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        flat.append(_scalar(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for element in value:
        _flatten(element, level + 1, shape, dtype, flat)


def _scalar(value: object, dtype: tf.DType) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if dtype == tf.string and isinstance(value, str):
        return value.encode()
    if dtype == tf.string and isinstance(value, dict):
        return _from_base64(value)
    if dtype == tf.bool and isinstance(value, bool):
        return value
    if dtype.is_integer and isinstance(value, int) and number and dtype.min <= value <= dtype.max:
        return value
    if dtype in _EXACT_WHOLE and number:
        limit = _EXACT_WHOLE[dtype] if isinstance(value, int) else float(dtype.max)
        if abs(value) > limit and abs(value) != float("inf"):
            kind = "float" if dtype == tf.float32 else "double"
            raise invalid(f"Cannot convert JSON value: {_text(value)} to {kind} without loss of precision.")
        return value
    if dtype not in (tf.string, tf.bool, *_EXACT_WHOLE) and not dtype.is_integer:
        raise StatusError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {_text(value)} to type: {dtype_text(dtype.as_datatype_enum)}",
        )
    kind = str(value) if isinstance(value, bool) else _JSON_TYPES[type(value)]
    raise invalid(
        f"JSON Value: {_text(value)} Type: {kind} is not of expected type: {dtype_text(dtype.as_datatype_enum)}"
    )


def _is_object(value: object) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: dict) -> bool:
    return value.keys() == {"b64"} and isinstance(value["b64"], str)


def _from_base64(value: dict) -> bytes:
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_text(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def _check_rows(arrays: dict[str, np.ndarray]) -> None:
    expected = None
    for alias, array in arrays.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {alias} has no shape information ")
        if expected is not None and len(array) != expected:
            raise invalid(f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {expected}")
        expected = len(array)


def _values(alias: str, array: np.ndarray, dtype: tf.DType) -> object:
    """Returns an array as nested lists of JSON values."""
    flat = array.ravel().tolist()
    if dtype == tf.string:
        as_base64 = alias.endswith("_bytes")
        flat = [{"b64": base64.b64encode(v).decode()} if as_base64 else v.decode("utf-8", "replace") for v in flat]
    elif dtype == tf.float32:
        # Six digits where they say the same float, else nine: the double of 0.2f would be written 0.20000000298.
        short = [float(f"{value:.6g}") for value in flat]
        same = (np.asarray(short, np.float32) == array.ravel()).tolist()
        flat = [s if ok else float(f"{v:.9g}") for v, s, ok in zip(flat, short, same, strict=True)]
    elif not (dtype == tf.float64 or dtype == tf.bool or dtype.is_integer):
        raise invalid(f"Failed to write JSON value for tensor type: {dtype_text(dtype.as_datatype_enum)}")
    nested = np.empty(len(flat), object)
    nested[:] = flat
    return nested.reshape(array.shape).tolist()


def _text(value: object) -> str:
    """Returns a JSON value for a message, cut where a photo's worth of base64 would follow."""
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."
