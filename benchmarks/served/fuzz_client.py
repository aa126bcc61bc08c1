"""A client that sends whatever it is given, and judges what comes back."""

import base64
import contextlib
import dataclasses
import http.client
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

from benchmarks.served.mutated_files import MutatedFile
from benchmarks.served.mutated_messages import PREDICTIONS, Attack, predict_request
from benchmarks.served.mutated_requests import PREDICT
from benchmarks.served.serving import ServerProcess

TIMEOUT = 30.0
LEAST_COSINE = 0.99999
# The connection's end without an answer, and an answer without a status, which HTTP 0.9 has.
CLOSED, WITHOUT_STATUS = 0, 9


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a request.

    Attributes:
        kind: of the request.
        status: a status of gRPC by name, or of HTTP by number; `CLOSED` where the connection ended without one.
        seconds: until the answer.
        fault: what is wrong with the answer; empty for nothing.
    """

    kind: str
    status: str | int
    seconds: float
    fault: str


class FuzzClient:
    """Sends requests to a server; threads may share one.

    Args:
        server: the server.
        photos: photos whose descriptors are known.
        descriptors: these, float32 [N, D].
    """

    RIGHT = "right requests"

    def __init__(self, server: ServerProcess, photos: list[bytes], descriptors: np.ndarray):
        self._server, self._photos, self._descriptors = server, photos, descriptors
        self._host = urlsplit(server.rest_url).netloc
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(server.grpc_address, options)
        self._local = threading.local()

    def is_there(self) -> bool:
        """Whether the server still runs."""
        return self._server.is_running

    def attack(self, wrong: Attack) -> Outcome:
        """Sends a wrong request."""
        start = time.perf_counter()
        if wrong.is_grpc:
            status, answer = self._call(wrong.target, wrong.content)
        elif wrong.target:
            status, answer = self._post(wrong.content)
        else:
            status, answer = self._raw(wrong.content)
        seconds, fault = time.perf_counter() - start, ""
        if status not in wrong.allowed and not _is_no_request(wrong, status):
            fault = f"{status} to {wrong.target} {wrong.content[:300]!r}: {answer[:300]!r}"
        elif status == "OK" and wrong.target.endswith("/Predict"):
            fault = _not_finite(answer)
        return Outcome(wrong.kind, status, seconds, fault)

    def describe_broken(self, broken: MutatedFile) -> Outcome:
        """Sends a broken file, twice where it is described: what memory happened to hold would differ."""
        first = self.describe_bytes(broken.encoded, broken.kind)
        if first.fault or first.status not in ("OK", 200):
            return self._with_source(first, broken)
        again = self.describe_bytes(broken.encoded, broken.kind)
        same = again.status in ("OK", 200) and cosine(first.vector, again.vector) > LEAST_COSINE
        fault = again.fault or ("" if same else "described in two ways")
        return self._with_source(dataclasses.replace(again, fault=fault), broken)

    def describe_bytes(self, encoded: bytes, kind: str) -> "DescribedOutcome":
        """Sends one file of any content."""
        start = time.perf_counter()
        status, answer = self._call(f"{PREDICTIONS}Predict", predict_request(encoded).SerializeToString())
        seconds, vector, fault = time.perf_counter() - start, None, ""
        if status == "OK":
            vector = parsed_descriptors(answer)[0]
            if not np.isfinite(vector).all() or abs(float(np.linalg.norm(vector)) - 1) > 1e-3:
                fault = "a descriptor that is none"
        elif status != "INVALID_ARGUMENT":
            fault = f"{status}: {answer!r}"
        return DescribedOutcome(kind, status, seconds, fault, vector)

    def describe_known(self, number: int) -> Outcome:
        """Asks for the descriptor of a known photo, over gRPC and over HTTP in turn."""
        place, start = number % len(self._photos), time.perf_counter()
        photo = self._photos[place]
        if number // len(self._photos) % 2:
            status, answer = self._post(json.dumps({"instances": [{"b64": base64.b64encode(photo).decode()}]}).encode())
            vector = json.loads(answer)["predictions"][0] if status == 200 else None
        else:
            status, answer = self._call(f"{PREDICTIONS}Predict", predict_request(photo).SerializeToString())
            vector = parsed_descriptors(answer)[0] if status == "OK" else None
        seconds, fault = time.perf_counter() - start, ""
        if vector is None:
            fault = f"photo {place} was answered {status}: {answer!r}"
        elif cosine(np.asarray(vector, np.float32), self._descriptors[place]) < LEAST_COSINE:
            fault = f"photo {place} was answered with another descriptor"
        return Outcome(self.RIGHT, status, seconds, fault)

    def _call(self, method: str, content: bytes) -> tuple[str, bytes | str]:
        try:
            return "OK", self._channel.unary_unary(method)(content, timeout=TIMEOUT)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
        except ValueError as error:  # gRPC itself does not send a method of this name
            return "UNIMPLEMENTED", str(error)

    def _post(self, body: bytes) -> tuple[int, bytes]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(self._host, timeout=TIMEOUT)
        try:
            connection.request("POST", PREDICT, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return CLOSED, repr(error).encode()

    def _raw(self, content: bytes) -> tuple[int, bytes]:
        """Sends bytes and says that no more will come; returns the status of the first answer."""
        host, port = self._host.rsplit(":", 1)
        try:
            connection = socket.create_connection((host, int(port)), timeout=TIMEOUT)
        except OSError as error:
            return CLOSED, repr(error).encode()
        with connection:
            with contextlib.suppress(ConnectionError):  # refused before all was sent
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(OSError):
                while len(answer) < 65536 and (more := connection.recv(65536)):
                    answer += more
        first = answer.split(b"\r\n", 1)[0].split()
        if len(first) < 2 or not answer.startswith(b"HTTP/"):  # HTTP 0.9 has no status
            return WITHOUT_STATUS if answer else CLOSED, answer
        return int(first[1]), answer

    @staticmethod
    def _with_source(outcome: "DescribedOutcome", broken: MutatedFile) -> Outcome:
        fault = f"{outcome.fault} ({broken.source}, {broken.encoded[:200]!r})" if outcome.fault else ""
        return Outcome(f"file, {outcome.kind}", outcome.status, outcome.seconds, fault)


@dataclasses.dataclass(frozen=True)
class DescribedOutcome(Outcome):
    """What came of a file.

    Attributes:
        vector: its descriptor, float32 [D]; None where it was refused.
    """

    vector: np.ndarray | None


def _is_no_request(wrong: Attack, status: str | int) -> bool:
    """Says whether an answer without a status is right: to an empty line, or to a line of HTTP 0.9."""
    words = wrong.content.split(b"\n", 1)[0].split()
    return not wrong.target and status == {0: CLOSED, 2: WITHOUT_STATUS}.get(len(words))


def _not_finite(answer: bytes) -> str:
    """Returns the output of a response that holds what is no number; empty for none."""
    for name, tensor in predict_pb2.PredictResponse.FromString(answer).outputs.items():
        if not np.isfinite(tensor.float_val).all():
            return f"the output {name} is not finite"
    return ""


def parsed_descriptors(answer: bytes) -> np.ndarray:
    """Returns the descriptors of a response's bytes, float32 [N, D]."""
    tensor = predict_pb2.PredictResponse.FromString(answer).outputs["descriptors"]
    if tensor.dtype != types_pb2.DT_FLOAT:
        raise ValueError(f"descriptors of dtype {tensor.dtype}")
    return np.array(tensor.float_val, np.float32).reshape([dim.size for dim in tensor.tensor_shape.dim])


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the cosine between two vectors, in float64."""
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return float(one @ two / max(np.linalg.norm(one) * np.linalg.norm(two), 1e-12))
