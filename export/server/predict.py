"""Predict: from a request to a response, with the real server's rules for what is wrong with a request."""

import contextlib
import time
from collections.abc import Iterable
from typing import Protocol

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from export.server.bad_rows import run_naming_rows
from export.server.call import Call
from export.server.errors import StatusError, invalid
from export.server.metrics import microseconds_since
from export.server.servable import Servable
from export.server.tensors import dtype_text, from_proto, shape_text, to_proto

DEFAULT_SIGNATURE = "serving_default"
# A tensor stands for no more than the largest message that is read.
MAX_TENSOR_BYTES = 256 * 2**20

_METHODS = ("tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress")


class Models(Protocol):
    """Where versions of models are found; see `export.server.models.ModelManager`."""

    def lease(self, spec: model_pb2.ModelSpec) -> contextlib.AbstractContextManager[Servable]:
        """Keeps the version that a request asks for loaded meanwhile."""


def predict(models: Models, request: predict_pb2.PredictRequest, call: Call) -> predict_pb2.PredictResponse:
    """Answers a Predict request.

    Args:
        models: the loaded models.
        request: names a model, perhaps a version and a signature, and gives every input of the signature that has no
            default.
        call: until when and for whom.

    Returns:
        The outputs in `output_filter`, or all of them, and the model, version and signature that made them.

    Raises:
        StatusError: the request is wrong, the model failed, or nobody waits any more. When single rows of a batch are
            at fault, they are named: `image_bytes[3]: Unknown image file format. ...`.
    """
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    with models.lease(request.model_spec) as servable:
        return predict_with(servable, request, call)


def predict_with(servable: Servable, request: predict_pb2.PredictRequest, call: Call) -> predict_pb2.PredictResponse:
    """Answers a Predict request by one version; see `predict`."""
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = find_signature(servable, name)
    inputs = _read_inputs(signature, request.inputs)
    aliases = _chosen_outputs(signature, request.output_filter)

    def alone(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        call.check()
        return servable.run(name, aliases, inputs, call.seconds_left)

    def together(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        call.check()
        values = servable.batching.run(name, aliases, inputs, call)
        return alone(inputs) if values is None else values

    batched = servable.batching is not None and servable.batching.takes(name, inputs)
    start = time.perf_counter()
    values = run_naming_rows(together if batched else alone, alone, inputs)
    servable.measure(microseconds_since(start))
    response = predict_pb2.PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.signature_name = name
    response.model_spec.version.value = servable.version
    for alias, value in zip(aliases, values, strict=True):
        response.outputs[alias].CopyFrom(to_proto(value, tf.as_dtype(signature.outputs[alias].dtype)))
    return response


def find_signature(servable: Servable, name: str) -> meta_graph_pb2.SignatureDef:
    """Returns a signature that can be predicted with.

    Raises:
        StatusError: FAILED_PRECONDITION when there is none of that name, INTERNAL when it is for something else.
    """
    signature = servable.signatures.get(name)
    if signature is None:
        raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    if signature.method_name not in _METHODS:
        raise StatusError(
            grpc.StatusCode.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS)}}}. "
            f"Was: {signature.method_name}",
        )
    return signature


def _read_inputs(
    signature: meta_graph_pb2.SignatureDef, given: dict[str, tensor_pb2.TensorProto]
) -> dict[str, np.ndarray]:
    """Returns the arrays of a request by alias, checked against the signature."""
    wanted, sent = set(signature.inputs), set(given)
    if signature.defaults:
        _check_names(signature, sent)
    elif sent != wanted:
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({_names(sent)}) != len({_names(wanted)}). "
            f"Sent extra: {_names(sent - wanted)}. Missing but required: {_names(wanted - sent)}."
        )
    # The graph numbers its arguments by the order of their tensors' names.
    order = sorted(wanted, key=lambda alias: signature.inputs[alias].name)
    arrays = {}
    for argument, alias in enumerate(order):
        proto = given[alias] if alias in given else signature.defaults[alias]
        info = signature.inputs[alias]
        if proto.dtype != info.dtype:
            raise invalid(
                f"Expects arg[{argument}] to be {dtype_text(info.dtype)} but {dtype_text(proto.dtype)} is provided"
            )
        try:
            arrays[alias] = from_proto(proto, MAX_TENSOR_BYTES)
        except ValueError as error:
            raise invalid(f"tensor parsing error: {alias}") from error
        if not tf.TensorShape(info.tensor_shape).is_compatible_with(arrays[alias].shape):
            found = shape_text(arrays[alias].shape)
            expected = shape_text(tuple(dim.size for dim in info.tensor_shape.dim))
            raise invalid(f"input {alias} has shape {found}; the signature wants {expected}")
    return arrays


def _check_names(signature: meta_graph_pb2.SignatureDef, sent: set[str]) -> None:
    """Refuses inputs of a signature with defaults, of which a request may leave out those that have one."""
    missing = sorted(set(signature.inputs) - sent - set(signature.defaults))
    if missing:
        raise invalid(
            f"Signature input alias: {missing[0]}(feed name: {signature.inputs[missing[0]].name}) not found in request "
            f"and no default value provided. Inputs expected to be in the request {_names(sent)}, or default input "
            f"alias set: {','.join(sorted(signature.defaults))}"
        )
    if sent - set(signature.inputs):
        used = sorted(sent & set(signature.inputs))
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {','.join(used)}, request input: "
            f"{','.join(sorted(sent))}"
        )


def _chosen_outputs(signature: meta_graph_pb2.SignatureDef, output_filter: Iterable[str]) -> list[str]:
    aliases = list(output_filter)
    for place, alias in enumerate(aliases):
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {_names(signature.outputs)}."
            )
        if alias in aliases[:place]:
            raise invalid(f"duplicate output tensor alias: {alias}")
    return aliases or sorted(signature.outputs)


def _names(aliases: Iterable[str]) -> str:
    return "{" + ",".join(sorted(aliases)) + "}"
