"""One process that listens on gRPC and REST and serves one model."""

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from export.server.grpc_service import add_services, make_server
from export.server.models import ModelManager
from export.server.rest import RestApi, RestServer
from tfretrieval.errors import InputError

T = TypeVar("T")

DEFAULT_MAX_BODY_BYTES = 256 * 2**20


class LocalServer:
    """A local stand-in for `tensorflow_model_server`, for development and tests.

    Example:
        with LocalServer("descriptor", "models/descriptor") as server:
            client = DescriptorClient(server.grpc_address)

    Args:
        model_name: the model's name in requests.
        model_base_path: folder of numbered version folders, each a SavedModel; see `ModelManager`.
        port: gRPC port; 0 takes a free one.
        rest_api_port: REST port; 0 takes a free one.
        bind_address: address to listen on; the default cannot be reached from other machines.
        grpc_max_threads: gRPC requests answered at a time; None allows four a core, as the real server does.
        rest_api_timeout_in_ms: milliseconds that a REST prediction may take before it answers 504.
        rest_api_max_body_bytes: larger REST bodies are refused with 413.
        file_system_poll_wait_seconds: seconds between looks for a newer version; 0 never looks again.
        tensorflow_session_parallelism: threads of TensorFlow's pools; 0 leaves the choice to TensorFlow.

    Attributes:
        grpc_address: `host:port` of gRPC, once started.
        rest_url: `http://host:port` of REST, once started.
    """

    def __init__(
        self,
        model_name: str,
        model_base_path: str | Path,
        port: int = 0,
        rest_api_port: int = 0,
        *,
        bind_address: str = "127.0.0.1",
        grpc_max_threads: int | None = None,
        rest_api_timeout_in_ms: int = 30_000,
        rest_api_max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        file_system_poll_wait_seconds: float = 1.0,
        tensorflow_session_parallelism: int = 0,
    ):
        if port and port == rest_api_port:
            raise InputError(f"--rest_api_port={rest_api_port} is --port too; gRPC and REST need a port each.")
        self._model = (model_name, model_base_path, file_system_poll_wait_seconds, tensorflow_session_parallelism)
        self._host = bind_address
        self._ports = (port, rest_api_port)
        self._grpc_threads = grpc_max_threads or 4 * (os.cpu_count() or 1)
        self._rest_timeout = rest_api_timeout_in_ms / 1000
        self._max_body_bytes = rest_api_max_body_bytes
        self._running = contextlib.ExitStack()
        self._models: ModelManager | None = None
        self.grpc_address = ""
        self.rest_url = ""

    @property
    def version(self) -> int:
        """The version that is being served."""
        return self._models.version

    def __str__(self) -> str:
        return f"serving {self._models.name} version {self.version}: gRPC {self.grpc_address}, REST {self.rest_url}"

    def start(self) -> None:
        """Listens, loads the model and begins to answer.

        Raises:
            InputError: a port cannot be listened on, or there is no version that loads.
        """
        with contextlib.ExitStack() as starting:
            # Both fronts must have ended before the model goes, so its place to be closed is taken first.
            last = starting.enter_context(contextlib.ExitStack())
            grpc_server = make_server(self._grpc_threads)
            starting.callback(lambda: grpc_server.stop(grace=5).wait())
            grpc_port = self._listen(grpc_server.add_insecure_port, "port", self._ports[0])
            rest_server = self._listen(self._make_rest_server, "rest_api_port", self._ports[1])
            starting.callback(rest_server.close)
            self._models = ModelManager(*self._model)
            last.callback(self._models.close)
            add_services(grpc_server, self._models)
            grpc_server.start()
            rest_server.start(RestApi(self._models, self._rest_timeout))
            self.grpc_address = _address(self._host, grpc_port)
            self.rest_url = f"http://{_address(self._host, rest_server.server_port)}"
            self._running = starting.pop_all()

    def close(self) -> None:
        """Lets requests under way finish for up to five seconds and frees ports and model."""
        self._running.close()

    def __enter__(self) -> "LocalServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _make_rest_server(self, address: str) -> RestServer:
        host, port = address.rsplit(":", 1)
        return RestServer((host.strip("[]"), int(port)), self._max_body_bytes)

    def _listen(self, bind: Callable[[str], T], flag: str, port: int) -> T:
        """Calls `bind` with an address, once a plain socket has shown that it is free: gRPC does not say why not."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self._host, port))
            return bind(_address(self._host, port))
        except (OSError, RuntimeError, OverflowError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            where = _address(self._host, port)
            raise InputError(
                f"--{flag}={port}: cannot listen on {where}, {reason}; choose another, or 0 for any."
            ) from error


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
