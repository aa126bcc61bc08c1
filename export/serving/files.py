"""Everything that hosts models, as files in one folder."""

from collections.abc import Mapping
from pathlib import Path

from export.serving import compose, configs, kubernetes
from export.serving.deployment import Deployment
from export.serving.yaml_text import to_yaml
from tfretrieval import files

# TensorFlow Serving's own files, by name, each by the flag that reads it.
FLAGS = {
    "models.config": "model_config_file",
    "batching.config": "batching_parameters_file",
    "monitoring.config": "monitoring_config_file",
    "platform.config": "platform_config_file",
}


def texts(models: Mapping[str, Path], deployment: Deployment) -> dict[str, str]:
    """Returns the files by name."""
    own = {
        "models.config": configs.model_config(models, deployment),
        "batching.config": configs.batching_parameters(deployment),
        "monitoring.config": configs.monitoring_config(),
        "platform.config": configs.platform_config(deployment),
    }
    server = {name: configs.text_of(proto) for name, proto in own.items()}
    manifests = kubernetes.manifests(models, server, deployment)
    return {
        **server,
        "docker-compose.yml": to_yaml(compose.compose(models, deployment)),
        "prometheus.yml": to_yaml(compose.prometheus()),
        "kubernetes.yaml": "---\n".join(to_yaml(manifest) for manifest in manifests),
    }


def write(output: str | Path, models: Mapping[str, Path], deployment: Deployment) -> list[Path]:
    """Writes the files into a new or earlier folder of such files, whole or not at all.

    Raises:
        InputError: the folder holds something else.
    """
    with files.atomic_directory(output, marker="models.config") as partial:
        for name, text in texts(models, deployment).items():
            files.write_text(partial / name, text)
    return sorted(Path(output).iterdir())
