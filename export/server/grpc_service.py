"""The gRPC side: PredictionService and ModelService over the models, health and reflection."""

import contextlib
import time
from collections.abc import Iterator

import grpc
from absl import logging
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from export.server.call import Call
from export.server.errors import StatusError, invalid
from export.server.grpc_limits import Admission, Pool
from export.server.grpc_messages import ReadableMessages
from export.server.health import SERVICE, HealthService
from export.server.metadata import get_model_metadata, get_model_status
from export.server.metrics import Metrics, microseconds_since
from export.server.model_config import parse_model_config
from export.server.models import ModelManager
from export.server.predict import predict
from tfretrieval.errors import InputError

CONTROL_WAITING = 256
MAX_STREAMS = 64
STREAMS_GRACE_SECONDS = 0.5

PREDICTION_SERVICE = prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name
MODEL_SERVICE = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name


class GrpcServer:
    """A gRPC server that refuses a port which another server already listens on.

    Args:
        threads: predictions answered at a time.
        waiting: predictions that may wait besides; more are refused with RESOURCE_EXHAUSTED.
        options: channel arguments, which come before this server's own.
        metrics: where requests are counted.

    Attributes:
        server: gRPC's own.
    """

    def __init__(self, threads: int, waiting: int, options: list[tuple[str, int | str]], metrics: Metrics):
        self._metrics = metrics
        # Answers that do not run a model come however many predictions wait; streams stay open as long as clients
        # like; a reload lasts as long as models load, and they come one by one.
        self._control = Pool("grpc-control", 4, CONTROL_WAITING)
        self._streams = Pool("grpc-streams", MAX_STREAMS, 0)
        self._reloads = Pool("grpc-reload", 1, 3)
        predictions = Pool("grpc", threads, waiting)
        admission = Admission(predictions, self._control, self._note_refused)
        own = {"grpc.so_reuseport": 0}  # with port sharing, two servers would answer in turns on one port
        interceptors = [admission, ReadableMessages()]
        self.server = grpc.server(predictions, interceptors=interceptors, options=[*{**own, **dict(options)}.items()])
        self._health = HealthService([PREDICTION_SERVICE, MODEL_SERVICE])

    def add_services(self, models: ModelManager) -> None:
        """Makes the server answer for models."""
        prediction, model, health = PredictionService(models, self._metrics), ModelService(models), self._health
        listing = reflection.ReflectionServicer([PREDICTION_SERVICE, MODEL_SERVICE, SERVICE, reflection.SERVICE_NAME])
        prediction.GetModelMetadata = self._control.method(prediction.GetModelMetadata)
        model.GetModelStatus = self._control.method(model.GetModelStatus)
        model.HandleReloadConfigRequest = self._reloads.method(model.HandleReloadConfigRequest)
        health.Check = self._control.method(health.Check)
        health.Watch = self._streams.stream(health.Watch)
        listing.ServerReflectionInfo = self._streams.stream(listing.ServerReflectionInfo)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, self.server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(model, self.server)
        health_pb2_grpc.add_HealthServicer_to_server(health, self.server)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(listing, self.server)

    def tell_health(self, is_ready: bool) -> None:
        """Sets what health checks of the server and of its two services answer."""
        self._health.tell(is_ready)

    def close(self, grace: float) -> None:
        """Tells health checks, refuses new requests, and waits up to `grace` seconds for those under way."""
        self._health.close()
        stopped = self.server.stop(grace)
        if not stopped.wait(min(grace, STREAMS_GRACE_SECONDS)):
            self._streams.end_streams()
            stopped.wait()
        for pool in (self._control, self._streams, self._reloads):
            pool.shutdown(wait=False, cancel_futures=True)

    def _note_refused(self, method: str) -> None:
        if method.endswith("/Predict"):
            self._metrics.request_count.add("", grpc.StatusCode.RESOURCE_EXHAUSTED.name)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the methods of the Example-based APIs answer UNIMPLEMENTED.

    Args:
        models: the models to answer for.
        metrics: where requests are counted.
    """

    def __init__(self, models: ModelManager, metrics: Metrics):
        self._models = models
        self._metrics = metrics

    def Predict(  # noqa: N802 - the service names its methods
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """See `export.server.predict.predict`; the client's deadline bounds the run, and its leaving ends it."""
        call = Call.within(context.time_remaining(), context.is_active)
        # Names of models that there are not are the clients' own words, and would fill the page.
        name = request.model_spec.name if request.model_spec.name in self._models.versions else ""
        start, status = time.perf_counter(), "OK"
        try:
            return predict(self._models, request, call)
        except StatusError as error:
            status = error.code.name
            context.abort(error.code, error.message)
        except Exception as error:  # noqa: BLE001 - one failed answer must not look like one of gRPC itself
            logging.exception("Predict failed")
            status = "INTERNAL"
            context.abort(grpc.StatusCode.INTERNAL, f"Internal error: {type(error).__name__}; see the server's log.")
        finally:
            self._metrics.request_count.add(name, status)
            self._metrics.request_latency.add(name, "Predict", "GRPC", value=microseconds_since(start))

    def GetModelMetadata(  # noqa: N802
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """See `export.server.metadata.get_model_metadata`."""
        with _statuses(context):
            return get_model_metadata(self._models, request)

    def Classify(self, request: object, context: grpc.ServicerContext) -> None:  # noqa: N802
        """Not answered here."""
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "The local server answers Predict, GetModelMetadata, GetModelStatus and HandleReloadConfigRequest only.",
        )

    Regress = MultiInference = Classify


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest.

    Args:
        models: the models to answer for.
    """

    def __init__(self, models: ModelManager):
        self._models = models

    def GetModelStatus(  # noqa: N802
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """See `export.server.metadata.get_model_status`."""
        with _statuses(context):
            return get_model_status(self._models, request)

    def HandleReloadConfigRequest(  # noqa: N802
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """See `ModelManager.reload`; answers once the new models are loaded."""
        with _statuses(context):
            if request.config.WhichOneof("config") != "model_config_list":
                raise invalid(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                    "currently supported"
                )
            Call.within(context.time_remaining(), context.is_active).check()
            try:
                settings = parse_model_config(request.config)
            except InputError as error:
                raise invalid(str(error)) from error
            try:
                self._models.reload(settings)
            except InputError as error:
                raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from error
        return model_management_pb2.ReloadConfigResponse()


@contextlib.contextmanager
def _statuses(context: grpc.ServicerContext) -> Iterator[None]:
    try:
        yield
    except StatusError as error:
        context.abort(error.code, error.message)
