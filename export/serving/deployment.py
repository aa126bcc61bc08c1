"""What a deployment of TensorFlow Serving is made of, checked."""

import dataclasses
from pathlib import Path

from export.server.batching_settings import BatchingSettings
from export.server.model_config import MODEL_NAME
from tfretrieval.errors import InputError

IMAGE = "tensorflow/serving:2.21.0"
GRPC_PORT, REST_PORT = 8500, 8501


@dataclasses.dataclass(frozen=True)
class Deployment:
    """How models are hosted.

    Attributes:
        image: Image of TensorFlow Serving.
        num_versions: Highest versions of each model that stay loaded; 2 keep the one before for going back at once.
        enable_batching: Whether the server puts requests together; see docs/operations.md before.
        max_batch_size: Rows of a batch.
        batch_timeout_micros: Microseconds that a batch waits for more rows.
        max_enqueued_batches: Batches that may wait; more requests are answered UNAVAILABLE.
        cpus: Processor cores of one server, which also is the number of batches that run at a time.
        memory_gib: Memory of one server in GiB; two versions are loaded while one replaces the other.
        replicas: Servers in Kubernetes.
        volume_claim: Kubernetes volume claim that holds a folder NAME for each model.
        config_poll_seconds: Seconds between the server's looks at its model configuration.
        grace_seconds: Seconds that requests under way may take when a server is stopped.
    """

    image: str = IMAGE
    num_versions: int = 2
    enable_batching: bool = False
    max_batch_size: int = 32
    batch_timeout_micros: int = 2000
    max_enqueued_batches: int = 16
    cpus: int = 2
    memory_gib: int = 4
    replicas: int = 2
    volume_claim: str = "models"
    config_poll_seconds: int = 30
    grace_seconds: int = 30

    def __post_init__(self):
        for name in ("num_versions", "cpus", "memory_gib", "replicas", "config_poll_seconds"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name}={getattr(self, name)}; 1 or more is wanted.")
        if self.grace_seconds < 0:
            raise InputError(f"--grace_seconds={self.grace_seconds}; 0 or more is wanted.")
        if not self.image or any(character.isspace() for character in self.image):
            raise InputError(f"--image={self.image!r}; the name of an image is wanted.")
        self.batching  # noqa: B018 - refuses what does not fit

    @property
    def batching(self) -> BatchingSettings:
        """The parameters of batches."""
        return BatchingSettings(
            self.max_batch_size, self.batch_timeout_micros, self.max_enqueued_batches, self.cpus, "batches"
        )

    def server_flags(self) -> list[str]:
        """Returns what the image's server is started with; the files lie in /config, the models in /models."""
        flags = [
            "--model_config_file=/config/models.config",
            f"--model_config_file_poll_wait_seconds={self.config_poll_seconds}",
            "--monitoring_config_file=/config/monitoring.config",
            # Labels are read before the versions they name are loaded, and without this refused then.
            "--allow_version_labels_for_unavailable_models=true",
        ]
        if self.enable_batching:
            flags += ["--enable_batching=true", "--batching_parameters_file=/config/batching.config"]
        return flags


def parse_models(given: list[str]) -> dict[str, Path]:
    """Returns model folders by name from NAME:PATH words.

    Raises:
        InputError: there is none, a word is no such pair, a name is none or comes twice, or a folder is missing.
    """
    models: dict[str, Path] = {}
    for word in given:
        name, found, path = word.partition(":")
        if not found or not path or not MODEL_NAME.fullmatch(name):
            raise InputError(f"--model={word}; NAME:PATH is wanted, the name of letters, digits, '_', '-' and '.'.")
        if name in models:
            raise InputError(f"--model={word}: the name {name} was given before; each model needs its own.")
        if not Path(path).is_dir():
            raise InputError(f"--model={word}: {path} is no folder; one with numbered versions is wanted.")
        models[name] = Path(path).resolve()
    if not models:
        raise InputError("no --model is given; NAME:PATH of at least one is wanted.")
    return models
