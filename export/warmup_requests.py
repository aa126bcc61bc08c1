"""Requests that TensorFlow Serving answers before a client's first: `assets.extra/tf_serving_warmup_requests`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from export.example_photos import example_photos
from tfretrieval.errors import InputError

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
PHOTOS, BOXES = "image_bytes", "boxes"


def warmup_requests(
    signatures: Mapping[str, meta_graph_pb2.SignatureDef], longer_side: int
) -> list[predict_pb2.PredictRequest]:
    """Makes requests of photos in several shapes for each signature that takes photos' bytes.

    Each shape is asked alone, then all in one request: what a server prepares for a shape or a batch is prepared then.
    Other inputs are left out where the signature has a default for them; `boxes` are the photos' inner halves.

    Args:
        signatures: the signatures by name.
        longer_side: pixels that photos are resized to.

    Returns:
        The requests, without a model's name: the server has its own.
    """
    photos = example_photos(longer_side)
    boxes = np.array([_inner_half(photo) for photo in photos], np.float32)
    made = []
    for name in sorted(signatures):
        wanted = set(signatures[name].inputs) - set(signatures[name].defaults)
        if PHOTOS in wanted and wanted <= {PHOTOS, BOXES}:
            for rows in (*([row] for row in range(4)), list(range(len(photos)))):
                inputs = {PHOTOS: np.array([photos[row] for row in rows], object), BOXES: boxes[rows]}
                made.append(_request(name, {each: inputs[each] for each in sorted(wanted)}))
    return made


def write_requests(requests: list[predict_pb2.PredictRequest], version: Path) -> None:
    """Writes requests as a version's warm-up: `PredictionLog` messages in a TFRecord file."""
    path = version / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString(deterministic=True))


def read_requests(version: Path) -> list[predict_pb2.PredictRequest]:
    """Reads a version's warm-up.

    Raises:
        InputError: it is missing, cut short, or holds something else.
    """
    path = version / WARMUP_FILE
    if not path.is_file():
        raise InputError(f"{path} is missing; warm-up requests are wanted there.")
    try:
        records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
        return [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    except (tf.errors.OpError, DecodeError) as error:
        raise InputError(f"{path} holds no warm-up requests: {str(error).splitlines()[0]}") from error


def arrays(request: predict_pb2.PredictRequest) -> dict[str, np.ndarray]:
    """Returns a request's inputs by name."""
    return {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}


def _request(signature: str, inputs: Mapping[str, np.ndarray]) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return request


def _inner_half(photo: bytes) -> list[float]:
    """Returns a box of half a photo's sides in its middle: left, top, right, bottom."""
    height, width = tf.image.decode_image(photo, expand_animations=False).shape[:2]
    return [width // 4, height // 4, width // 4 + width // 2, height // 4 + height // 2]
