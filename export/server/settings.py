"""What a local server serves, where, and within which limits."""

import dataclasses
import os
from pathlib import Path

from export.server.batching_settings import BatchingSettings, read_batching_parameters
from export.server.config_files import read_text_proto
from export.server.config_protos import MonitoringConfig
from export.server.metrics import DEFAULT_PATH
from export.server.model_config import ModelSettings, read_model_config
from tfretrieval.errors import InputError

DEFAULT_MAX_BODY_BYTES = 256 * 2**20
MAX_BATCHED_THREADS = 256


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """The flags of a server. Names and meanings are the real server's, apart from those marked as this server's own.

    Attributes:
        model_name: Name of the model in requests.
        model_base_path: Folder of version folders 1, 2, ...; or --model_config_file.
        model_config_file: Text file with a ModelServerConfig, for several models, version policies and labels; the
            two flags of one model are not read then.
        model_config_file_poll_wait_seconds: Seconds between looks at --model_config_file; 0 never looks again.
        file_system_poll_wait_seconds: Seconds between looks for new versions; 0 never looks again.
        allow_version_labels_for_unavailable_models: Whether a new label may name a version that is not loaded yet.
        port: gRPC port; 0 takes a free one.
        rest_api_port: REST port; 0 takes a free one.
        bind_address: Address to listen on; 0.0.0.0 lets other machines in. This server's own.
        ssl_config_file: Text file with an SSLConfig, for gRPC over TLS; REST stays plain.
        monitoring_config_file: Text file with a MonitoringConfig, for Prometheus on the REST port.
        grpc_max_threads: gRPC predictions answered at a time; by default four a core, with batching twice as many as
            a batch has rows.
        grpc_channel_arguments: Comma-separated key=value pairs for the gRPC server, such as
            grpc.max_receive_message_length=1000000.
        rest_api_num_threads: REST predictions answered at a time; as many as over gRPC by default.
        rest_api_timeout_in_ms: Milliseconds that a REST prediction may take.
        rest_api_max_body_bytes: Larger REST bodies are refused, as are larger gRPC messages unless
            --grpc_channel_arguments says otherwise. This server's own.
        max_waiting_requests: Predictions that may wait for their turn, over gRPC and over REST; more are answered
            RESOURCE_EXHAUSTED. This server's own.
        enable_batching: Whether requests are put together into batches.
        batching_parameters_file: Text file with BatchingParameters, for --enable_batching.
        enable_model_warmup: Whether a version answers its recorded requests before it is available.
        num_request_iterations_for_warmup: How often each recorded request is answered.
        tensorflow_session_parallelism: Threads of TensorFlow's pools; 0 chooses.
        shutdown_grace_seconds: Seconds that requests under way may take after SIGTERM. This server's own.
    """

    model_name: str = "descriptor"
    model_base_path: str | None = None
    model_config_file: str | None = None
    model_config_file_poll_wait_seconds: float = 0.0
    file_system_poll_wait_seconds: float = 1.0
    allow_version_labels_for_unavailable_models: bool = False
    port: int = 8500
    rest_api_port: int = 8501
    bind_address: str = "127.0.0.1"
    ssl_config_file: str | None = None
    monitoring_config_file: str | None = None
    grpc_max_threads: int | None = None
    grpc_channel_arguments: str = ""
    rest_api_num_threads: int | None = None
    rest_api_timeout_in_ms: int = 30_000
    rest_api_max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    max_waiting_requests: int = 256
    enable_batching: bool = False
    batching_parameters_file: str | None = None
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 1
    tensorflow_session_parallelism: int = 0
    shutdown_grace_seconds: float = 30.0

    def __post_init__(self):
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise InputError(f"--{name}={value}; {least} or more is wanted.")
        for name in ("port", "rest_api_port"):
            if getattr(self, name) > 65535:
                raise InputError(f"--{name}={getattr(self, name)}; a port up to 65535 is wanted.")
        if self.port and self.port == self.rest_api_port:
            raise InputError(f"--rest_api_port={self.port} is --port too; gRPC and REST need a port each.")
        if not self.model_base_path and not self.model_config_file:
            raise InputError("neither --model_base_path nor --model_config_file is given; one of them is wanted.")
        if self.batching_parameters_file and not self.enable_batching:
            raise InputError("--batching_parameters_file is given without --enable_batching; both are wanted.")
        self.channel_arguments  # noqa: B018 - refuses what is none

    def models(self) -> dict[str, ModelSettings]:
        """Returns the models to serve, by name.

        Raises:
            InputError: the configuration file is refused, or the model's name.
        """
        if self.model_config_file:
            return read_model_config(self.model_config_file)
        path = self.model_base_path
        return {self.model_name: ModelSettings(self.model_name, Path(path), origin=f"--model_base_path={path}")}

    def batching(self) -> BatchingSettings | None:
        """Returns how requests are put together; None without --enable_batching.

        Raises:
            InputError: the parameters file is refused.
        """
        if not self.enable_batching:
            return None
        path = self.batching_parameters_file
        return read_batching_parameters(path) if path else BatchingSettings()

    def metrics_path(self) -> str | None:
        """Returns the REST path of the Prometheus page; None where there is none.

        Raises:
            InputError: the monitoring file is refused, or its path is no absolute path.
        """
        if not self.monitoring_config_file:
            return None
        read = read_text_proto(self.monitoring_config_file, MonitoringConfig(), "monitoring_config_file")
        path = read.prometheus_config.path or DEFAULT_PATH
        if not path.startswith("/") or path.lower().startswith("/v1/"):
            raise InputError(
                f"--monitoring_config_file={self.monitoring_config_file}: path is {path!r}; one that begins with '/' "
                "and lies outside /v1/ is wanted."
            )
        return path if read.prometheus_config.enable else None

    def grpc_threads(self, batching: BatchingSettings | None) -> int:
        """Returns how many gRPC predictions are answered at a time."""
        usual = 4 * (os.cpu_count() or 1)
        if batching is not None:
            usual = max(usual, min(2 * batching.max_batch_size, MAX_BATCHED_THREADS))
        return self.grpc_max_threads or usual

    @property
    def channel_arguments(self) -> list[tuple[str, int | str]]:
        """The pairs of `grpc_channel_arguments`; whole numbers as such."""
        pairs = []
        for pair in filter(None, self.grpc_channel_arguments.split(",")):
            name, found, value = pair.partition("=")
            if not found or not name:
                raise InputError(f"--grpc_channel_arguments has {pair!r}; key=value pairs are wanted.")
            pairs.append((name, int(value) if value.removeprefix("-").isdecimal() else value))
        return pairs


_LEAST = {
    "model_config_file_poll_wait_seconds": 0,
    "file_system_poll_wait_seconds": 0,
    "port": 0,
    "rest_api_port": 0,
    "grpc_max_threads": 1,
    "rest_api_num_threads": 1,
    "rest_api_timeout_in_ms": 1,
    "rest_api_max_body_bytes": 1,
    "max_waiting_requests": 0,
    "num_request_iterations_for_warmup": 1,
    "tensorflow_session_parallelism": 0,
    "shutdown_grace_seconds": 0,
}
