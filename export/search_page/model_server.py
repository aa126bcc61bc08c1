"""The model server behind the page: photos and parts of them described, and what is wrong told in a sentence."""

import dataclasses
import re

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export.client import DescriptorClient, ServingError
from export.described_objects import DescribedObject
from export.query_signature import QUERY
from export.search_page.errors import PageError
from export.search_page.index import PhotoIndex

_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 503,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Described:
    """What the model server says of a photo or of a part of it.

    Attributes:
        vector: float32 [D], of length 1.
        objects: what it found, best first; none where the model finds no objects or a part was asked for.
    """

    vector: np.ndarray
    objects: tuple[DescribedObject, ...] = ()


class ModelServer:
    """Describes photos through a server whose model is the one that made the index. Threads may share it.

    Args:
        address: `host:port` of its gRPC port.
        model_name: the model's name there.
        timeout: seconds that an answer may take.
    """

    def __init__(self, address: str, model_name: str = "descriptor", timeout: float = 30.0):
        self.address, self._model_name, self._timeout = address, model_name, timeout
        self._client = DescriptorClient(address, model_name, timeout=timeout)
        self._channel = grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)])
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def describe(self, photo: bytes, box: Box | None, index: PhotoIndex) -> Described:
        """Describes a photo, or what is in a box of it.

        Which model answers is asked each time: the server may have taken up another version.

        Args:
            photo: its file.
            box: left, top, right, bottom in pixels of the upright photo; None for the whole.
            index: the index that is searched; its model has to be the server's.

        Raises:
            PageError: 400 where the photo is refused, 409 where the model is not that of the index or takes no box,
                502 where the server answers something else, 503 where it does not, 504 where it takes too long.
        """
        try:
            card = self._client.card()
            check_model(card, index, self.address)
            if box is not None:
                described = Described(self._describe_box(photo, box))
            elif "objects" in card:
                (found,) = self._client.describe_objects([photo])
                described = Described(found.descriptor, found.objects)
            else:
                described = Described(self._client.describe([photo])[0])
        except ServingError as error:
            raise self._told(error) from error
        if len(described.vector) != index.dimension:
            raise _mismatch(f"gives {len(described.vector)} dimensions", index, f"{index.dimension}", self.address)
        return described

    def check(self, index: PhotoIndex) -> dict:
        """Returns the card of the server's model, empty where it has none.

        Raises:
            PageError: as `describe`.
        """
        try:
            card = self._client.card()
        except ServingError as error:
            raise self._told(error) from error
        check_model(card, index, self.address)
        return card

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()
        self._channel.close()

    def _describe_box(self, photo: bytes, box: Box) -> np.ndarray:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._model_name, QUERY
        request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([photo], tf.string))
        request.inputs["boxes"].CopyFrom(tf.make_tensor_proto([box], tf.float32))
        try:
            answer = self._predictions.Predict(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise ServingError(error.code(), error.details() or "") from error
        vectors = tf.make_ndarray(answer.outputs["descriptors"]) if "descriptors" in answer.outputs else np.zeros(0)
        if vectors.ndim != 2 or len(vectors) != 1 or not np.isfinite(vectors).all():
            raise ServingError(grpc.StatusCode.INTERNAL, f"its signature {QUERY} gives no descriptor")
        return vectors[0].astype(np.float32)

    def _told(self, error: ServingError) -> PageError:
        status, told = _STATUS.get(error.code, 502), _plain(error.message, self.address)
        if QUERY in told and "signature" in told.lower() and status != 503:
            return PageError(
                409,
                f"The model on {self.address} has no signature {QUERY!r}, which a box needs; search with the whole "
                "photo, or export the model again.",
            )
        sentence = {
            400: f"The server refused the photo: {told}.",
            503: f"The server {self.address} cannot be reached, or has too much to do; is it running?",
            504: f"The server {self.address} did not answer within {self._timeout:g} seconds.",
        }
        return PageError(status, sentence.get(status, f"The server {self.address} cannot describe the photo: {told}."))


def check_model(card: dict, index: PhotoIndex, address: str) -> None:
    """Checks, as far as the model and the index tell, that one made the other.

    Raises:
        PageError: 409 where it did not.
    """
    dimension, made_by, serves = card.get("dimension"), index.model_sha256, card.get("model_sha256")
    if dimension is not None and dimension != index.dimension:
        raise _mismatch(f"gives {dimension} dimensions", index, f"{index.dimension}", address)
    if made_by and serves and made_by != serves:
        raise _mismatch(f"is {serves[:12]}", index, made_by[:12], address)


def _mismatch(what: str, index: PhotoIndex, wanted: str, address: str) -> PageError:
    return PageError(
        409,
        f"The model on {address} {what} and the one that made the index {index.name} {wanted}; serve that model, or "
        "extract the index again.",
    )


def _plain(message: str, address: str) -> str:
    """Returns what a server says, without the place in the request, its address and anything after the first line."""
    line = next(iter(message.strip().splitlines()), "").removesuffix(f"({address})").strip()
    return re.sub(r"\b(image_bytes|boxes)\[0\]: ", "", line).rstrip(".") or "no details"
