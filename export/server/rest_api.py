"""What each path of the REST side answers, apart from HTTP itself."""

import json
import re
from urllib.parse import unquote, urlsplit

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from export.server.call import Call
from export.server.errors import StatusError, invalid
from export.server.json_tensors import Infos, parse_predict, render_predict
from export.server.metadata import SIGNATURE_DEF, get_model_metadata, get_model_status
from export.server.metrics import Metrics, microseconds_since
from export.server.models import ModelManager
from export.server.predict import DEFAULT_SIGNATURE, predict

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(rf"(?:{_MODEL}|/v1/models)(?P<metadata>/metadata)?", re.IGNORECASE)

_MOST_DIGITS = 19  # of a 64-bit number; Python refuses to read thousands of them


class RestApi:
    """What each REST path answers.

    Args:
        models: the models to answer for.
        timeout: seconds that a prediction may take.
        metrics: where requests are counted.
        metrics_path: path of the Prometheus page; None where there is none.

    Attributes:
        timeout: as given.
    """

    def __init__(
        self, models: ModelManager, timeout: float, metrics: Metrics | None = None, metrics_path: str | None = None
    ):
        self._models = models
        self.timeout = timeout
        self._metrics = metrics or Metrics()
        self._metrics_path = metrics_path

    def runs_a_model(self, method: str, path: str) -> bool:
        """Says whether a request is a prediction, which may have to wait for its turn."""
        return method == "POST" and _POST.fullmatch(_without_query(path)) is not None

    def answer(self, method: str, path: str, body: bytes, call: Call) -> tuple[str, str]:
        """Returns the content type and the text that answer a request.

        Args:
            method: the HTTP method.
            path: the path with its query, as in the request line.
            body: the request's body, empty where it has none.
            call: until when and for whom.

        Raises:
            StatusError: the request is wrong or failed.
        """
        path = _without_query(path)
        if method == "GET" and path == self._metrics_path:
            return "text/plain; version=0.0.4", self._metrics.page()
        return "application/json", self._answer(method, path, body, call)

    def note(self, path: str, status: str, start: float) -> None:
        """Counts a prediction that was answered with a status, or refused; `start` is a `time.perf_counter()`."""
        found = _POST.fullmatch(_without_query(path))
        name = unquote(found["name"])
        # Names of models that there are not are the clients' own words, and would fill the page.
        name = name if name in self._models.versions else ""
        self._metrics.request_count.add(name, status)
        self._metrics.request_latency.add(name, "predict", "REST", value=microseconds_since(start))

    def _answer(self, method: str, path: str, body: bytes, call: Call) -> str:
        found = {"POST": _POST, "GET": _GET}[method].fullmatch(path) if method in ("POST", "GET") else None
        if found is None:
            raise invalid(f"Malformed request: {method} {path}")
        if not found["name"]:
            raise invalid("Missing model name in request.")
        spec = _model_spec(found)
        if method == "GET":
            return self._metadata(spec) if found["metadata"] else self._status(spec)
        if found["method"].lower() != "predict":
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, "The local server answers predict only.")
        return self._predict(spec, body, call)

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes, call: Call) -> str:
        call.check()
        request = predict_pb2.PredictRequest(model_spec=spec)
        rows = parse_predict(body, lambda name: self._input_infos(spec, name), request)
        return render_predict(predict(self._models, request, call), rows)

    def _input_infos(self, spec: model_pb2.ModelSpec, name: str) -> Infos:
        name = name or DEFAULT_SIGNATURE
        with self._models.lease(spec) as servable:
            if name not in servable.signatures:
                raise invalid(f'Serving signature name: "{name}" not found in signature def')
            return dict(servable.signatures[name].inputs)

    def _metadata(self, spec: model_pb2.ModelSpec) -> str:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
        response = get_model_metadata(self._models, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[SIGNATURE_DEF].Unpack(signatures)
        options = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
        told = {
            "model_spec": json_format.MessageToDict(response.model_spec, **options),
            "metadata": {SIGNATURE_DEF: json_format.MessageToDict(signatures, **options)},
        }
        return json.dumps(told, indent=1)

    def _status(self, spec: model_pb2.ModelSpec) -> str:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        response = get_model_status(self._models, request)
        return json_format.MessageToJson(response, indent=1, always_print_fields_with_no_presence=True)


def _without_query(target: str) -> str:
    """Returns the path of a request line's target; what is no URL comes back as it is, and is none of this API's."""
    try:
        return urlsplit(target).path
    except ValueError:
        return target


def _model_spec(found: re.Match) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(found["name"]))
    if found["version"]:
        digits = found["version"].lstrip("0") or "0"
        if len(digits) > _MOST_DIGITS or int(digits) >= 2**63:
            raise invalid(f"Failed to convert version: {found['version']} to numeric.")
        spec.version.value = int(digits)
    elif found["label"]:
        spec.version_label = unquote(found["label"])
    return spec
