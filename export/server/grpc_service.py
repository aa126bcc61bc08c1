"""The gRPC side: PredictionService and ModelService over one model."""

import contextlib
from collections.abc import Iterator
from concurrent import futures

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from export.server.errors import StatusError
from export.server.metadata import get_model_metadata, get_model_status
from export.server.models import ModelManager
from export.server.predict import predict

# The real server's limit, the largest that a message length can say.
MAX_MESSAGE_BYTES = 2**31 - 1


def make_server(max_threads: int) -> grpc.Server:
    """Returns a server without services that refuses a port which another server already listens on."""
    return grpc.server(
        futures.ThreadPoolExecutor(max_threads, thread_name_prefix="grpc"),
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            # With port sharing, two servers would answer in turns on one port.
            ("grpc.so_reuseport", 0),
        ],
    )


def add_services(server: grpc.Server, models: ModelManager) -> None:
    """Makes a server answer for a model."""
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(models), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), server)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the methods of the Example-based APIs answer UNIMPLEMENTED.

    Args:
        models: the model to answer for.
    """

    def __init__(self, models: ModelManager):
        self._models = models

    def Predict(  # noqa: N802 - the service names its methods
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """See `export.server.predict.predict`; the client's deadline bounds the run."""
        with _statuses(context):
            return predict(self._models, request, context.time_remaining())

    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """See `export.server.metadata.get_model_metadata`."""
        with _statuses(context):
            return get_model_metadata(self._models, request)

    def Classify(self, request: object, context: grpc.ServicerContext) -> None:  # noqa: N802
        """Not answered here."""
        _unimplemented(context)

    Regress = MultiInference = Classify


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; reloading a configuration answers UNIMPLEMENTED.

    Args:
        models: the model to answer for.
    """

    def __init__(self, models: ModelManager):
        self._models = models

    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """See `export.server.metadata.get_model_status`."""
        with _statuses(context):
            return get_model_status(self._models, request)

    def HandleReloadConfigRequest(self, request: object, context: grpc.ServicerContext) -> None:  # noqa: N802
        """Not answered here."""
        _unimplemented(context)


@contextlib.contextmanager
def _statuses(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except StatusError as error:
        context.abort(error.code, error.message)


def _unimplemented(context: grpc.ServicerContext) -> None:
    context.abort(
        grpc.StatusCode.UNIMPLEMENTED,
        "The local server answers Predict, GetModelMetadata and GetModelStatus only.",
    )
