"""Docker Compose: one TensorFlow Serving on this machine, and Prometheus beside it where asked for."""

from collections.abc import Mapping
from pathlib import Path

from export.server.metrics import DEFAULT_PATH
from export.serving.deployment import GRPC_PORT, REST_PORT, Deployment

PROMETHEUS_IMAGE = "prom/prometheus:v3.5.0"


def compose(models: Mapping[str, Path], deployment: Deployment) -> dict:
    """Returns the Compose file: ports on this machine only, models and configuration read-only.

    The image has bash and no curl, so its health is asked for through bash's own sockets.
    """
    first = next(iter(models))
    question = f"GET /v1/models/{first} HTTP/1.0\\r\\n\\r\\n"
    probe = f"exec 3<>/dev/tcp/127.0.0.1/{REST_PORT} && printf '{question}' >&3 && grep -q AVAILABLE <&3"
    # The whole folder: of a file that is mounted alone, the server would go on to see what an editor replaced.
    mounts = [".:/config:ro", *(_mount(name, folder) for name, folder in models.items())]
    return {
        "services": {
            "serving": {
                "image": deployment.image,
                "command": deployment.server_flags(),
                "ports": [f"127.0.0.1:{port}:{port}" for port in (GRPC_PORT, REST_PORT)],
                "volumes": mounts,
                "cpus": deployment.cpus,
                "mem_limit": f"{deployment.memory_gib}g",
                "restart": "unless-stopped",
                "stop_grace_period": f"{deployment.grace_seconds}s",
                "healthcheck": {
                    "test": ["CMD", "bash", "-c", probe],
                    "interval": "10s",
                    "timeout": "5s",
                    "retries": 3,
                    "start_period": "120s",
                },
            },
            "prometheus": {
                "image": PROMETHEUS_IMAGE,
                "profiles": ["monitoring"],
                "ports": ["127.0.0.1:9090:9090"],
                "volumes": ["./prometheus.yml:/etc/prometheus/prometheus.yml:ro"],
            },
        }
    }


def prometheus() -> dict:
    """Returns the configuration of the Prometheus beside it."""
    return {
        "scrape_configs": [
            {
                "job_name": "tensorflow-serving",
                "scrape_interval": "15s",
                "metrics_path": DEFAULT_PATH,
                "static_configs": [{"targets": [f"serving:{REST_PORT}"]}],
            }
        ]
    }


def _mount(name: str, folder: Path) -> dict:
    """Returns a mount in the long form, in which a path may hold a colon; a dollar sign is doubled for Compose."""
    return {
        "type": "bind",
        "source": str(folder).replace("$", "$$"),
        "target": f"/models/{name}",
        "read_only": True,
    }
