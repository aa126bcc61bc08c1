"""Warm-up: recorded requests that a version answers before any client's."""

import itertools
import time
from pathlib import Path

import grpc
import tensorflow as tf
from absl import logging
from google.protobuf import message
from tensorflow_serving.apis import prediction_log_pb2

from export.server.call import Call
from export.server.errors import StatusError, invalid
from export.server.metrics import Metrics, microseconds_since
from export.server.predict import predict_with
from export.server.servable import Servable

# The real server's place and bound.
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1000


def warm_up(servable: Servable, folder: Path, iterations: int, metrics: Metrics) -> int:
    """Answers the `PredictionLog` records of a version, where it has any.

    Args:
        servable: the version.
        folder: its folder.
        iterations: how often each record is answered.
        metrics: where the time is noted.

    Returns:
        The number of records. Those of other APIs than Predict are skipped.

    Raises:
        StatusError: a record does not parse, there are too many, or the model fails on one.
    """
    path = folder / WARMUP_FILE
    if not path.is_file():
        return 0
    start, status, count = time.perf_counter(), "OK", 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            count += 1
            if count > MAX_RECORDS:
                raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
            _answer(servable, record, path, iterations)
    except StatusError as error:
        status = error.code.name
        raise
    except tf.errors.DataLossError as error:
        status = "DATA_LOSS"
        raise StatusError(
            grpc.StatusCode.DATA_LOSS, f"{path} is damaged. Please verify your warmup data is in TFRecord format."
        ) from error
    finally:
        metrics.warmup_latency.add(str(folder), status, value=microseconds_since(start))
    return count


def _answer(servable: Servable, record: bytes, path: Path, iterations: int) -> None:
    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except message.DecodeError as error:
        raise invalid(f"Failed to parse warmup record from {path}") from error
    kind = log.WhichOneof("log_type")
    if kind != "predict_log":
        logging.warning("%s: a warm-up record with a %s is skipped; only Predict is answered here", path, kind)
        return
    for _ in itertools.repeat(None, iterations):
        predict_with(servable, log.predict_log.request, Call())
