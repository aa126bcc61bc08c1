"""One process that listens on gRPC and REST and serves models."""

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from absl import logging

from export.server.grpc_service import GrpcServer
from export.server.metrics import Metrics
from export.server.model import Loading
from export.server.model_config import ModelSettings, read_model_config
from export.server.models import ModelManager
from export.server.rest import RestServer
from export.server.rest_api import RestApi
from export.server.settings import ServerSettings
from export.server.tls import server_credentials
from tfretrieval.errors import InputError

T = TypeVar("T")

# Seconds between two looks at whether every model answers, for health checks.
HEALTH_WAIT_SECONDS = 0.2


class LocalServer:
    """A local stand-in for `tensorflow_model_server`, for development and tests.

    Example:
        with LocalServer("descriptor", "models/descriptor") as server:
            client = DescriptorClient(server.grpc_address)

    Args:
        model_name: the model's name in requests.
        model_base_path: folder of numbered version folders, each a SavedModel.
        port: gRPC port; 0 takes a free one.
        rest_api_port: REST port; 0 takes a free one.
        **options: fields of `ServerSettings`.

    Attributes:
        grpc_address: `host:port` of gRPC, once started.
        rest_url: `http://host:port` of REST, once started.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(
        self,
        model_name: str = "descriptor",
        model_base_path: str | Path | None = None,
        port: int = 0,
        rest_api_port: int = 0,
        **options: object,
    ):
        base_path = None if model_base_path is None else str(model_base_path)
        self._take(ServerSettings(model_name, base_path, port=port, rest_api_port=rest_api_port, **options))

    @classmethod
    def of(cls, settings: ServerSettings) -> "LocalServer":
        """Returns the server of these settings."""
        server = cls.__new__(cls)
        server._take(settings)
        return server

    def _take(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._running = contextlib.ExitStack()
        self._models: ModelManager | None = None
        self._stop = threading.Event()
        self.grpc_address = ""
        self.rest_url = ""

    @property
    def version(self) -> int:
        """The version that answers requests to the only model which name none."""
        (versions,) = self._models.versions.values()
        return versions[-1]

    @property
    def versions(self) -> dict[str, list[int]]:
        """The versions that answer, by model."""
        return self._models.versions

    def __str__(self) -> str:
        told = ", ".join(
            f"{name} version {', '.join(map(str, versions)) or 'none'}" for name, versions in self.versions.items()
        )
        return f"serving {told}: gRPC {self.grpc_address}, REST {self.rest_url}"

    def start(self) -> None:
        """Listens, loads the models and begins to answer.

        Raises:
            InputError: a port cannot be listened on, a file is refused, or a model has no version that loads.
        """
        settings, metrics = self._settings, Metrics()
        batching, metrics_path = settings.batching(), settings.metrics_path()
        threads, grace = settings.grpc_threads(batching), settings.shutdown_grace_seconds
        loading = Loading(
            settings.tensorflow_session_parallelism,
            batching,
            settings.num_request_iterations_for_warmup if settings.enable_model_warmup else 0,
            metrics,
        )
        limits = [(f"grpc.max_{way}_message_length", most) for way, most in self._message_limits()]
        with contextlib.ExitStack() as starting:
            # Both fronts must have ended before the models go, so their place to be closed is taken first.
            last = starting.enter_context(contextlib.ExitStack())
            fronts: list[Callable[[float], None]] = []
            starting.callback(_close_together, fronts, grace)
            front = GrpcServer(threads, settings.max_waiting_requests, limits + settings.channel_arguments, metrics)
            fronts.append(front.close)
            grpc_port = self._listen(self._grpc_binding(front), "port", settings.port)
            rest_threads = settings.rest_api_num_threads or threads
            rest = self._listen(
                lambda to: self._make_rest_server(to, rest_threads), "rest_api_port", settings.rest_api_port
            )
            fronts.append(rest.close)
            self._models = ModelManager(
                configured := settings.models(),
                loading,
                settings.file_system_poll_wait_seconds,
                settings.allow_version_labels_for_unavailable_models,
            )
            last.callback(self._models.close, grace)
            front.add_services(self._models)
            front.server.start()
            rest.start(RestApi(self._models, settings.rest_api_timeout_in_ms / 1000, metrics, metrics_path))
            self.grpc_address = _address(settings.bind_address, grpc_port)
            self.rest_url = f"http://{_address(settings.bind_address, rest.server_port)}"
            front.tell_health(True)
            self._watch(front, configured, starting)
            self._running = starting.pop_all()

    def close(self) -> None:
        """Refuses new requests, lets those under way finish for the grace period, and frees ports and models."""
        self._running.close()

    def __enter__(self) -> "LocalServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _message_limits(self) -> list[tuple[str, int]]:
        return [("receive", self._settings.rest_api_max_body_bytes), ("send", 2**31 - 1)]

    def _grpc_binding(self, front: GrpcServer) -> Callable[[str], int]:
        if not self._settings.ssl_config_file:
            return front.server.add_insecure_port
        credentials = server_credentials(self._settings.ssl_config_file)
        return lambda address: front.server.add_secure_port(address, credentials)

    def _make_rest_server(self, address: str, threads: int) -> RestServer:
        host, port = address.rsplit(":", 1)
        settings = self._settings
        return RestServer(
            (host.strip("[]"), int(port)), settings.rest_api_max_body_bytes, threads, settings.max_waiting_requests
        )

    def _listen(self, bind: Callable[[str], T], flag: str, port: int) -> T:
        """Calls `bind` with an address, once a plain socket has shown that it is free: gRPC does not say why not."""
        host = self._settings.bind_address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
            return bind(_address(host, port))
        except (OSError, RuntimeError, OverflowError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            where = _address(host, port)
            raise InputError(
                f"--{flag}={port}: cannot listen on {where}, {reason}; choose another, or 0 for any."
            ) from error

    def _watch(
        self, front: GrpcServer, configured: Mapping[str, ModelSettings], starting: contextlib.ExitStack
    ) -> None:
        """Follows the models' state and the configuration file until the server closes."""
        self._stop = threading.Event()
        watched = [threading.Thread(target=self._follow_health, args=(front,), name="health", daemon=True)]
        if self._settings.model_config_file and self._settings.model_config_file_poll_wait_seconds > 0:
            watched.append(
                threading.Thread(target=self._follow_config, args=(configured,), name="config-poll", daemon=True)
            )
        for thread in watched:
            thread.start()
        starting.callback(self._stop.set)

    def _follow_health(self, front: GrpcServer) -> None:
        told = True
        while not self._stop.wait(HEALTH_WAIT_SECONDS):
            if told != self._models.is_ready:
                told = not told
                front.tell_health(told)

    def _follow_config(self, served: Mapping[str, ModelSettings]) -> None:
        path, told = self._settings.model_config_file, ""
        while not self._stop.wait(self._settings.model_config_file_poll_wait_seconds):
            try:
                found = read_model_config(path)
                if found != served:
                    self._models.reload(found)
                    served, told = found, ""
                    logging.info("the models of %s are served", path)
            except InputError as error:
                if str(error) != told:
                    told = str(error)
                    logging.error("%s; the models stay as they are", told)


def _close_together(fronts: list[Callable[[float], None]], grace: float) -> None:
    """Closes both fronts at once: while one waits for its requests, the other must not take new ones."""
    closing = [threading.Thread(target=close, args=(grace,), name="close") for close in fronts]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
