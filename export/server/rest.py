"""The REST side over HTTP/1.1: connections, bodies and their limits; `rest_api` says what is answered."""

import contextlib
import http.server
import json
import select
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import grpc
from absl import logging

from export.http_bodies import BodyReader
from export.server.call import Call
from export.server.errors import StatusError, invalid
from export.server.rest_api import RestApi

# Connections beyond these are closed at once; each has a thread.
MAX_CONNECTIONS = 512
# Bodies being received or answered hold no more than this many times the largest one.
BODIES_AT_A_TIME = 4


class RestServer(http.server.ThreadingHTTPServer):
    """Listens for HTTP from the moment it is made and answers once an `api` is set and `start` was called.

    Args:
        address: host and port; port 0 takes a free one.
        max_body_bytes: larger bodies are refused with 413.
        threads: predictions answered at a time.
        waiting: predictions that may wait besides; more are refused with 429.

    Attributes:
        api: what answers.
        is_closing: whether `close` was called.

    Raises:
        OSError: the address cannot be listened on.
    """

    request_queue_size = 128

    def __init__(self, address: tuple[str, int], max_body_bytes: int, threads: int = 8, waiting: int = 256):
        self.api: RestApi | None = None
        self.is_closing = False
        self.max_body_bytes = max_body_bytes
        self._turns = threading.Semaphore(threads)
        self._most = threads + waiting
        self._changed = threading.Condition()
        self._busy = self._predictions = self._bytes = self._connections = 0
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
        """Stops accepting connections, and waits up to `grace` seconds for requests under way.

        Later requests on connections that are kept are answered UNAVAILABLE.
        """
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.is_closing = True
        self.socket.close()  # nobody may connect and wait for an answer that does not come
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, grace)
        self.server_close()

    def verify_request(self, request: socket.socket, client_address: tuple) -> bool:
        """Says whether there is a thread left for a connection."""
        return self._connections < MAX_CONNECTIONS

    def process_request_thread(self, request: socket.socket, client_address: tuple) -> None:
        """Serves one connection."""
        with self._changed:
            self._connections += 1
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changed:
                self._connections -= 1

    def handle_error(self, request: socket.socket, client_address: tuple) -> None:
        """Notes that a connection broke, as clients' do."""
        logging.debug("the connection from %s broke", client_address, exc_info=True)

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Counts a request from its first line to its answer."""
        self._count("_busy", 1)
        try:
            yield
        finally:
            self._count("_busy", -1)

    @contextlib.contextmanager
    def admitted(self, body_bytes: int) -> Iterator[None]:
        """Counts a prediction and its body.

        Raises:
            StatusError: RESOURCE_EXHAUSTED when too many are under way.
        """
        with self._changed:
            most = BODIES_AT_A_TIME * self.max_body_bytes
            if self._predictions >= self._most or (self._bytes and self._bytes + body_bytes > most):
                raise StatusError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{self._predictions} requests with {self._bytes} bytes are running or waiting; try again later.",
                )
            self._predictions += 1
            self._bytes += body_bytes
        try:
            yield
        finally:
            with self._changed:
                self._predictions -= 1
                self._bytes -= body_bytes

    @contextlib.contextmanager
    def turn(self, call: Call) -> Iterator[None]:
        """Waits until a prediction may run.

        Raises:
            StatusError: DEADLINE_EXCEEDED when its turn does not come in time.
        """
        if not self._turns.acquire(timeout=max(0.0, call.seconds_left)):
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        try:
            yield
        finally:
            self._turns.release()

    def _count(self, what: str, change: int) -> None:
        with self._changed:
            setattr(self, what, getattr(self, what) + change)
            self._changed.notify_all()


class _Handler(BodyReader, http.server.BaseHTTPRequestHandler):
    """One connection: reads requests, writes answers."""

    server: RestServer
    protocol_version = "HTTP/1.1"
    server_version = "tfretrieval-local-server"
    timeout = 60
    # Headers and body leave in one packet; apart, delayed acknowledgements would cost 40 ms.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        with self.server.under_way():
            status, kind, text = self._respond()
            self._write(status, text, kind)
        if self.close_connection and status >= 400:
            self.discard_rest()

    do_GET = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_POST  # noqa: N815 - the base class looks methods up by these names

    def handle_expect_100(self) -> bool:
        if self._announced() <= self.server.max_body_bytes:
            super().handle_expect_100()
            self.wfile.flush()
        return True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.close_connection = True
        # The base class takes what it cannot read for HTTP 0.9, whose answers have no status.
        self.request_version = self.protocol_version
        self._write(code, _error_text(message or self.responses.get(code, ("Error",))[0]))

    def log_message(self, format: str, *args: object) -> None:
        logging.debug(format, *args)

    def _respond(self) -> tuple[int, str, str]:
        """Returns HTTP status, content type and text."""
        runs, start, told = self.server.api.runs_a_model(self.command, self.path), time.perf_counter(), "INTERNAL"
        try:
            kind, text = self._predict() if runs else self._answer(self._read_body(), self._call())
            told = "OK"
            return 200, kind, text
        except _TooLargeError:
            told = grpc.StatusCode.RESOURCE_EXHAUSTED.name
            text = _error_text(f"The request body is larger than {self.server.max_body_bytes} bytes.")
            return 413, "application/json", text
        except StatusError as error:
            told = error.code.name
            return self._http_status(error), "application/json", _error_text(error.message)
        except (ConnectionError, TimeoutError):  # the client's, who reads no answer
            self.close_connection, told = True, grpc.StatusCode.CANCELLED.name
            return 499, "application/json", _error_text("Cancelled")
        except Exception:  # noqa: BLE001 - one failed answer must not end the connection without a status
            logging.exception("%s %s failed", self.command, self.path)
            return 500, "application/json", _error_text("Internal error; see the server's log.")
        finally:
            if runs:
                self.server.api.note(self.path, told, start)

    def _http_status(self, error: StatusError) -> int:
        known = self.path.lower().startswith("/v1/") or error.code != grpc.StatusCode.INVALID_ARGUMENT
        return error.http_status if known else 404

    def _predict(self) -> tuple[str, str]:
        """Answers a prediction when its turn comes; its body is read before, so that slow senders take no turn."""
        length = self._body_length()
        try:
            with self.server.admitted(length):
                body = self.received(length)
                call = self._call()
                with self.server.turn(call):
                    return self._answer(body, call)
        except StatusError as error:
            if error.code == grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.close_connection = True  # the body was not read
            raise

    def _answer(self, body: bytes, call: Call) -> tuple[str, str]:
        if self.server.is_closing:
            raise StatusError(grpc.StatusCode.UNAVAILABLE, "The server is shutting down.")
        return self.server.api.answer(self.command, self.path, body, call)

    def _call(self) -> Call:
        return Call.within(self.server.api.timeout, self._is_wanted)

    def _is_wanted(self) -> bool:
        """Says whether the client is still connected: a closed connection is readable and holds nothing."""
        try:
            readable = select.select([self.connection], [], [], 0)[0]
            return not readable or self.connection.recv(1, socket.MSG_PEEK) != b""
        except (OSError, ValueError):
            return False

    def _read_body(self) -> bytes:
        return self.received(self._body_length())

    def _announced(self) -> int:
        lengths = set(self.headers.get_all("Content-Length", ["0"]))
        length = lengths.pop() or "0"
        # Two lengths would let two readers of one connection see different requests in it.
        return int(length) if not lengths and length.isascii() and length.isdecimal() and len(length) < 20 else -1

    def _body_length(self) -> int:
        """Returns the length of the body; the connection cannot be used further after an error."""
        length = self._announced()
        coding = self.headers.get("Transfer-Encoding") or self.headers.get("Content-Encoding") or "identity"
        if length < 0 or coding.lower() != "identity":
            self.close_connection = True
            raise invalid("The local server reads plain bodies with a Content-Length only.")
        if length > self.server.max_body_bytes:
            self.close_connection = True
            raise _TooLargeError
        return length

    def _write(self, status: int, text: str, kind: str = "application/json") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection or self.server.is_closing:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


class _TooLargeError(Exception):
    """A body that is larger than the server reads."""


def _error_text(message: str) -> str:
    return json.dumps({"error": message}, indent=4)
