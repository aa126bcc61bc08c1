"""What a ModelServerConfig asks for, checked once, where it is read."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from tensorflow_serving.config import model_server_config_pb2

from export.server.config_files import read_text_proto
from export.server.versions import VersionPolicy
from tfretrieval.errors import InputError

# A name becomes a part of URLs, metrics and folder names; nothing in it may lead elsewhere.
MODEL_NAME = re.compile(r"(?!\.+$)[A-Za-z0-9_.-]{1,255}")
LABEL = re.compile(r"[^/:\s]{1,255}")
PLATFORM = "tensorflow"


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """One model of a configuration.

    Attributes:
        name: its name in requests.
        base_path: folder of its version folders.
        policy: which versions are served.
        labels: version numbers by label.
        origin: where the user said so, for error messages.
    """

    name: str
    base_path: Path
    policy: VersionPolicy = dataclasses.field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    origin: str = ""

    def __post_init__(self):
        if not MODEL_NAME.fullmatch(self.name):
            raise InputError(
                f"the model name {self.name[:80]!r} does not do; letters, digits, '_', '-' and '.' are wanted."
            )


def read_model_config(path: str | Path) -> dict[str, ModelSettings]:
    """Reads a `--model_config_file`.

    Returns:
        The models by name, at least one.

    Raises:
        InputError: the file cannot be read, names no model, or `parse_model_config` refuses it.
    """
    config = read_text_proto(path, model_server_config_pb2.ModelServerConfig(), "model_config_file")
    try:
        models = parse_model_config(config)
    except InputError as error:
        raise InputError(f"--model_config_file={path}: {error}") from error
    if not models:
        raise InputError(f"--model_config_file={path} names no model; a model_config_list with one is wanted.")
    return models


def parse_model_config(config: model_server_config_pb2.ModelServerConfig) -> dict[str, ModelSettings]:
    """Returns the models of a configuration by name.

    Raises:
        InputError: a custom configuration, a model named twice, a bad name, no absolute base path, another platform
            than tensorflow, a bad version policy or label.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise InputError("custom_model_config is not supported; a model_config_list is wanted.")
    models: dict[str, ModelSettings] = {}
    for entry in config.model_config_list.config:
        if entry.name in models:
            raise InputError(f"Illegal to list model {entry.name} multiple times in config list.")
        models[entry.name] = _parse_model(entry)
    return models


def _parse_model(entry: model_server_config_pb2.ModelConfig) -> ModelSettings:
    name = entry.name[:80]
    platform = entry.model_platform or ("" if entry.model_type != model_server_config_pb2.TENSORFLOW else PLATFORM)
    if platform != PLATFORM:
        raise InputError(f"model {name!r} has the model_platform {platform!r}; {PLATFORM!r} is wanted.")
    if not entry.base_path.startswith("/") or "\0" in entry.base_path or "/../" in f"{entry.base_path}/":
        raise InputError(
            f"Expected model {name!r} to have an absolute path without '..'; got base_path={entry.base_path[:200]!r}."
        )
    try:
        policy = VersionPolicy.of(entry.model_version_policy)
    except ValueError as error:
        raise InputError(f"model {name!r}: {error}.") from error
    for label, version in entry.version_labels.items():
        if not LABEL.fullmatch(label) or version < 0:
            raise InputError(
                f"model {name!r}: version_labels has {label[:80]!r}: {version}; a word and a version are wanted."
            )
    origin = f"model {name!r}: base_path {entry.base_path}"
    return ModelSettings(entry.name, Path(entry.base_path), policy, dict(entry.version_labels), origin)
