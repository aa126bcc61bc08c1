"""The REST side: /v1/models/NAME over HTTP/1.1."""

import contextlib
import http.server
import json
import re
import socket
import socketserver
import threading
import time
from urllib.parse import unquote, urlsplit

import grpc
from absl import logging
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from export.server.errors import StatusError, invalid
from export.server.json_tensors import Infos, parse_predict, render_predict
from export.server.metadata import SIGNATURE_DEF, get_model_metadata, get_model_status
from export.server.models import ModelManager
from export.server.predict import DEFAULT_SIGNATURE, predict

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(rf"(?:{_MODEL}|/v1/models)(?P<metadata>/metadata)?", re.IGNORECASE)


class RestApi:
    """What each REST path answers, apart from HTTP itself.

    Args:
        models: the model to answer for.
        timeout: seconds that a prediction may take.
    """

    def __init__(self, models: ModelManager, timeout: float):
        self._models = models
        self._timeout = timeout

    def answer(self, method: str, path: str, body: bytes) -> str:
        """Returns the JSON text that answers a request.

        Args:
            method: the HTTP method.
            path: the path with its query, as in the request line.
            body: the request's body, empty where it has none.

        Raises:
            StatusError: the request is wrong or failed.
        """
        path = urlsplit(path).path
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
        return self._predict(spec, body)

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> str:
        request = predict_pb2.PredictRequest(model_spec=spec)
        rows = parse_predict(body, lambda name: self._input_infos(spec, name), request)
        return render_predict(predict(self._models, request, self._timeout), rows)

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


class RestServer(http.server.ThreadingHTTPServer):
    """Listens for HTTP from the moment it is made and answers once an `api` is set and `start` was called.

    Args:
        address: host and port; port 0 takes a free one.
        max_body_bytes: larger bodies are refused with 413.

    Raises:
        OSError: the address cannot be listened on.
    """

    request_queue_size = 128

    def __init__(self, address: tuple[str, int], max_body_bytes: int):
        self.api: RestApi | None = None
        self.max_body_bytes = max_body_bytes
        self._changed = threading.Condition()
        self._busy = 0
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="rest", daemon=True)

    def server_bind(self) -> None:
        """Binds without asking the name service what the address is called, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def start(self, api: RestApi) -> None:
        """Begins to answer."""
        self.api = api
        self._thread.start()

    def close(self, grace: float = 5.0) -> None:
        """Stops accepting requests and waits up to `grace` seconds for those under way."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, grace)
        self.server_close()

    def count(self, change: int) -> None:
        """Notes that a request began (1) or was answered (-1)."""
        with self._changed:
            self._busy += change
            self._changed.notify_all()


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection: reads requests, writes JSON."""

    protocol_version = "HTTP/1.1"
    server_version = "tfretrieval-local-server"
    timeout = 60
    # Headers and body leave in one packet; apart, delayed acknowledgements would cost 40 ms.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.server.count(1)
        try:
            status, text = self._respond()
            self._write(status, text)
        finally:
            self.server.count(-1)
        if self.close_connection and status >= 400:
            self._discard_rest()

    do_GET = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_POST  # noqa: N815 - the base class looks methods up by these names

    def handle_expect_100(self) -> bool:
        if int(self.headers.get("Content-Length") or 0) <= self.server.max_body_bytes:
            super().handle_expect_100()
            self.wfile.flush()
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.close_connection = True
        self._write(code, _error_text(message or self.responses.get(code, ("Error",))[0]))

    def log_message(self, format: str, *args: object) -> None:
        logging.debug(format, *args)

    def _respond(self) -> tuple[int, str]:
        try:
            body = self._read_body()
            if body is None:
                return 413, _error_text(f"The request body is larger than {self.server.max_body_bytes} bytes.")
            if not self.path.lower().startswith("/v1/"):
                return 404, _error_text(f"Malformed request: {self.command} {self.path}")
            return 200, self.server.api.answer(self.command, self.path, body)
        except StatusError as error:
            return error.http_status, _error_text(error.message)
        except Exception:  # noqa: BLE001 - one failed answer must not end the connection without a status
            logging.exception("%s %s failed", self.command, self.path)
            return 500, _error_text("Internal error; see the server's log.")

    def _read_body(self) -> bytes | None:
        """Returns the body, or None where it is too large; the connection cannot be used further after that."""
        length = self.headers.get("Content-Length", "0")
        coding = self.headers.get("Transfer-Encoding") or self.headers.get("Content-Encoding") or "identity"
        if not length.isdecimal() or coding.lower() != "identity":
            self.close_connection = True
            raise invalid("The local server reads plain bodies with a Content-Length only.")
        if int(length) > self.server.max_body_bytes:
            self.close_connection = True
            return None
        return self.rfile.read(int(length))

    def _discard_rest(self) -> None:
        """Reads what is still being sent, for a while: closing on unread bytes would throw the answer away too."""
        end = time.monotonic() + 5
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1)
            while time.monotonic() < end and self.rfile.read1(2**16):
                pass

    def _write(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def _model_spec(found: re.Match) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(found["name"]))
    if found["version"]:
        if int(found["version"]) >= 2**63:
            raise invalid(f"Failed to convert version: {found['version']} to numeric.")
        spec.version.value = int(found["version"])
    elif found["label"]:
        spec.version_label = unquote(found["label"])
    return spec


def _error_text(message: str) -> str:
    return json.dumps({"error": message}, indent=4)
