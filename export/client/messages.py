"""The requests that a client makes and what it takes from their answers; nothing here talks to a server."""

import dataclasses
import json
from collections.abc import Mapping

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from export.client.batches import Batch
from export.client.errors import ServingError
from export.described_objects import ObjectArrays


@dataclasses.dataclass(frozen=True)
class Target:
    """Whom a client asks.

    Attributes:
        model_name: the model's name on the server.
        signature_name: a signature that takes photos as bytes [N] and gives descriptors float32 [N, D].
        version: version to ask; None asks the latest that is loaded.
        input_name: the signature's input.
        output_name: the signature's output.
    """

    model_name: str
    signature_name: str
    version: int | None
    input_name: str
    output_name: str

    def spec(self, signature_name: str | None = None) -> model_pb2.ModelSpec:
        """Returns the part of a request that names the model, and the signature, the own one by default."""
        spec = model_pb2.ModelSpec(name=self.model_name, signature_name=signature_name or self.signature_name)
        if self.version is not None:
            spec.version.value = self.version
        return spec


def describe_request(target: Target, batch: Batch) -> predict_pb2.PredictRequest:
    """Asks for the descriptors of N photos."""
    request = predict_pb2.PredictRequest(model_spec=target.spec(), output_filter=[target.output_name])
    request.inputs[target.input_name].CopyFrom(_string_tensor(batch.photos))
    return request


def descriptors_of(response: predict_pb2.PredictResponse, target: Target, batch: Batch) -> np.ndarray:
    """Returns the descriptors of a batch's N photos, float32 [N, D].

    Raises:
        ServingError: INTERNAL; the answer is not that, or not finite.
    """
    proto = response.outputs[target.output_name]
    descriptors = _float_array(proto)
    if descriptors is None or descriptors.ndim != 2 or len(descriptors) != len(batch):
        shape = [dim.size for dim in proto.tensor_shape.dim]
        raise ServingError(
            grpc.StatusCode.INTERNAL,
            f"{target.output_name} came back as {types_pb2.DataType.Name(proto.dtype)} {shape}; "
            f"wanted DT_FLOAT [{len(batch)}, D].",
        )
    broken = tuple(batch.places[row] for row in np.flatnonzero(~np.isfinite(descriptors).all(axis=1)))
    if broken:
        raise ServingError(grpc.StatusCode.INTERNAL, f"the descriptor of photo {broken[0]} is not finite.", broken)
    return descriptors


def objects_request(
    target: Target, batch: Batch, signature_name: str, thresholds: Mapping[str, float | None]
) -> predict_pb2.PredictRequest:
    """Asks for the objects of N photos; thresholds of None are left to the export."""
    request = predict_pb2.PredictRequest(model_spec=target.spec(signature_name))
    request.inputs[target.input_name].CopyFrom(_string_tensor(batch.photos))
    for name, value in thresholds.items():
        if value is not None:
            request.inputs[name].CopyFrom(tf.make_tensor_proto(float(value), tf.float32))
    return request


def objects_of(response: predict_pb2.PredictResponse, batch: Batch, signature_name: str) -> ObjectArrays:
    """Returns the objects of a batch's photos.

    Raises:
        ServingError: INTERNAL; the answer does not hold them.
    """
    try:
        found = ObjectArrays.of({name: tf.make_ndarray(proto) for name, proto in response.outputs.items()})
        if len(found) != len(batch):
            raise ValueError(f"there are {len(found)} rows for {len(batch)} photos.")
    except (ValueError, TypeError) as error:
        raise ServingError(
            grpc.StatusCode.INTERNAL, f"the answer of {signature_name} does not hold: {error}"
        ) from error
    return found


def status_request(target: Target) -> get_model_status_pb2.GetModelStatusRequest:
    """Asks for the states of the model's versions."""
    return get_model_status_pb2.GetModelStatusRequest(model_spec=target.spec())


def status_of(response: get_model_status_pb2.GetModelStatusResponse) -> dict[int, str]:
    """Returns the state of each version, such as `{1: "AVAILABLE"}`."""
    return {known.version: known.State.Name(known.state) for known in response.model_version_status}


def metadata_request(target: Target) -> get_model_metadata_pb2.GetModelMetadataRequest:
    """Asks for the model's signatures."""
    return get_model_metadata_pb2.GetModelMetadataRequest(model_spec=target.spec(), metadata_field=["signature_def"])


def metadata_of(response: get_model_metadata_pb2.GetModelMetadataResponse) -> dict:
    """Returns the served version and its signatures, see `DescriptorClient.metadata`."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {
        "version": response.model_spec.version.value,
        "signatures": {
            name: {"inputs": _describe_tensors(known.inputs), "outputs": _describe_tensors(known.outputs)}
            for name, known in signatures.signature_def.items()
        },
    }


def no_descriptors(metadata: dict, target: Target) -> np.ndarray:
    """Returns float32 [0, D] with the D of the signature; 0 where it leaves D open."""
    outputs = metadata["signatures"].get(target.signature_name, {}).get("outputs", {})
    shape = outputs.get(target.output_name, {}).get("shape", [])
    return np.zeros((0, max(0, shape[-1]) if shape else 0), np.float32)


def card_request(target: Target) -> predict_pb2.PredictRequest:
    """Asks for what the model says of itself."""
    return predict_pb2.PredictRequest(model_spec=target.spec("card"))


def card_of(response: predict_pb2.PredictResponse, address: str) -> dict:
    """Returns a model's card.

    Raises:
        ServingError: INTERNAL; it is not a JSON object.
    """
    values = response.outputs["card"].string_val
    try:
        card = json.loads(values[0]) if values else None
    except ValueError:
        card = None
    if not isinstance(card, dict):
        raise ServingError(grpc.StatusCode.INTERNAL, f"the model's card is not a JSON object ({address})")
    return card


def _string_tensor(values: tuple[bytes, ...]) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=values)
    proto.tensor_shape.dim.add(size=len(values))
    return proto


def _float_array(proto: tensor_pb2.TensorProto) -> np.ndarray | None:
    """Returns a float32 tensor message as an array; None where it is of another dtype or its parts disagree."""
    if proto.dtype != types_pb2.DT_FLOAT:
        return None
    try:
        return tf.make_ndarray(proto)
    except ValueError:
        return None


def _describe_tensors(infos: dict) -> dict:
    return {
        alias: {
            "dtype": types_pb2.DataType.Name(info.dtype),
            "shape": None if info.tensor_shape.unknown_rank else [dim.size for dim in info.tensor_shape.dim],
        }
        for alias, info in infos.items()
    }
