"""The page over HTTP/1.1: who may ask, how much may be sent, and what every answer says to the browser."""

import contextlib
import http.server
import ipaddress
import json
import socket
import socketserver
import threading
import urllib.parse

from absl import logging

from export.http_bodies import BodyReader
from export.search_page.api import JSON, Answer, PageApi
from export.search_page.errors import PageError
from export.search_page.settings import PageSettings
from tfretrieval.errors import InputError

MAX_CONNECTIONS = 128  # each has a thread; more are closed at once
PHOTOS_AT_A_TIME = 8  # held in memory while they are received and described
_WAIT = 30.0  # seconds for one's turn
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class PageServer(http.server.ThreadingHTTPServer):
    """Serves the page while the `with` block lasts.

    On a loopback address it answers only requests that name this machine, so that a web site whose name leads here
    cannot read the photos; nowhere does it answer what another site's page asks.

    Args:
        api: what answers.
        settings: where to listen, and what is accepted.

    Attributes:
        url: where the page is.

    Raises:
        InputError: the address cannot be listened on.
    """

    request_queue_size = 64
    daemon_threads = True

    def __init__(self, api: PageApi, settings: PageSettings):
        self.api, self.max_bytes = api, settings.max_bytes
        self.address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self._turns = threading.Semaphore(PHOTOS_AT_A_TIME)
        self._changed, self._connections, self._busy = threading.Condition(), 0, 0
        try:
            super().__init__((settings.host, settings.port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"--host={settings.host} --port={settings.port} cannot be listened on: {error}."
            ) from error
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"http://{host}:{self.server_port}/"
        self.is_private = _is_loopback(settings.host)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="page", daemon=True)

    def server_bind(self) -> None:
        """Binds without asking the name service what the address is called, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def __enter__(self) -> "PageServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, grace: float = 5.0) -> None:
        """Stops listening, and waits up to `grace` seconds for answers under way."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.socket.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, grace)
        self.server_close()

    def verify_request(self, request: socket.socket, client_address: tuple) -> bool:
        """Says whether there is a thread left for a connection."""
        return self._connections < MAX_CONNECTIONS

    def process_request_thread(self, request: socket.socket, client_address: tuple) -> None:
        """Serves one connection."""
        with self._count("_connections"):
            super().process_request_thread(request, client_address)

    def handle_error(self, request: socket.socket, client_address: tuple) -> None:
        """Notes that a connection broke, as browsers' do."""
        logging.debug("the connection from %s broke", client_address, exc_info=True)

    def under_way(self) -> contextlib.AbstractContextManager:
        """Counts an answer that a stop waits for."""
        return self._count("_busy")

    @contextlib.contextmanager
    def turn(self):
        """Waits until a photo may be received.

        Raises:
            PageError: 503 when there is no turn in time.
        """
        if not self._turns.acquire(timeout=_WAIT):
            raise PageError(503, "Too many photos are being searched with; try again.")
        try:
            yield
        finally:
            self._turns.release()

    @contextlib.contextmanager
    def _count(self, what: str):
        with self._changed:
            setattr(self, what, getattr(self, what) + 1)
        try:
            yield
        finally:
            with self._changed:
                setattr(self, what, getattr(self, what) - 1)
                self._changed.notify_all()


class _Handler(BodyReader, http.server.BaseHTTPRequestHandler):
    """One connection: reads requests, writes answers."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version = "tfretrieval-search"
    sys_version = ""
    timeout = 30
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        with self.server.under_way():
            status, answer = self._respond()
            self._write(status, answer)
        if self.close_connection and status >= 400:
            self.discard_rest()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.close_connection = True
        self.request_version = self.protocol_version  # what could not be read gets a status line too
        self._write(code, _sentence(message or self.responses.get(code, ("Error",))[0]))

    def log_message(self, format: str, *args: object) -> None:
        logging.debug(format, *args)

    def _respond(self) -> tuple[int, Answer]:
        try:
            self._check_sender()
            return 200, self._answer()
        except PageError as error:
            return error.status, _sentence(error.message)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            return 408, _sentence("The photo was not received in time.")
        except Exception:  # noqa: BLE001 - one failed answer must not end the connection without a status
            logging.exception("%s %s failed", self.command, self.path)
            return 500, _sentence("Something went wrong here; the terminal of the page tells what.")

    def _answer(self) -> Answer:
        path = self.path.partition("?")[0]
        if self.command in ("GET", "HEAD"):
            if (self.headers.get("Content-Length") or "0") != "0" or self.headers.get("Transfer-Encoding"):
                self.close_connection = True
                raise PageError(400, "A request of this kind has no body.")
            return self.server.api.answer(self.path, None)
        if self.command != "POST" or not self.server.api.takes_body(path):
            self.close_connection = True
            raise PageError(405, f"{self.command} is not answered at this address.")
        length = self._length()
        with self.server.turn():
            return self.server.api.answer(self.path, self.received(length))

    def _check_sender(self) -> None:
        """Refuses what pages of other sites ask, and names that only lead to this machine."""
        try:
            host = urllib.parse.urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        except ValueError:
            host = ""
        if self.server.is_private and not _is_loopback(host):
            self.close_connection = True
            raise PageError(403, "The page is open to this machine only; ask for it by 127.0.0.1 or localhost.")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and self.path != "/":
            self.close_connection = True
            raise PageError(403, "Other sites' pages are not answered.")

    def _length(self) -> int:
        """Returns the announced length of the body; the connection is not used further after an error."""
        text = self.headers.get("Content-Length") or ""
        if not (text.isascii() and text.isdecimal() and len(text) < 20) or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise PageError(411, "A photo with a Content-Length is wanted.")
        if int(text) > self.server.max_bytes:
            self.close_connection = True
            raise PageError(
                413, f"The photo has {int(text):,} bytes, more than the {self.server.max_bytes:,} that are accepted."
            )
        return int(text)

    def _write(self, status: int, answer: Answer) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "private, max-age=86400, immutable" if answer.lasts else "no-store")
        if status == 405:
            self.send_header("Allow", "GET, HEAD, POST")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()


def _sentence(message: str) -> Answer:
    return Answer(json.dumps({"error": message}, ensure_ascii=False).encode(), JSON)


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
