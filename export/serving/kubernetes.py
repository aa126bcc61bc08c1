"""Kubernetes: TensorFlow Serving as a Deployment that is replaced without a gap, its configuration, its Service."""

from collections.abc import Iterable, Mapping

from export.server.metrics import DEFAULT_PATH
from export.serving.deployment import GRPC_PORT, REST_PORT, Deployment

NAME = "tensorflow-serving"
LABELS = {"app.kubernetes.io/name": NAME}
# Seconds that a server goes on answering after it was told to stop, until no balancer sends to it any more.
DEREGISTRATION_SECONDS = 10
START_SECONDS = 600
UNPRIVILEGED_USER = 65534


def manifests(names: Iterable[str], configs: Mapping[str, str], deployment: Deployment) -> list[dict]:
    """Returns the manifests.

    Args:
        names: the models; each lies in a folder of its name in the claimed volume.
        configs: the server's configuration files by name.
        deployment: image, sizes and times.
    """
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(), "data": dict(configs)},
        _deployment(next(iter(names)), deployment),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(),
            "spec": {
                "selector": LABELS,
                # gRPC keeps its connections: with one address for all, a client would stay with one server.
                "clusterIP": "None",
                "ports": [
                    {"name": name, "port": port, "targetPort": name}
                    for name, port in (("grpc", GRPC_PORT), ("rest", REST_PORT))
                ],
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": _metadata(),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}},
        },
    ]


def _metadata() -> dict:
    return {"name": NAME, "labels": LABELS}


def _deployment(model: str, deployment: Deployment) -> dict:
    scrape = {"scrape": "true", "port": str(REST_PORT), "path": DEFAULT_PATH}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(),
        "spec": {
            "replicas": deployment.replicas,
            "selector": {"matchLabels": LABELS},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {
                    "labels": LABELS,
                    "annotations": {f"prometheus.io/{name}": value for name, value in scrape.items()},
                },
                "spec": {
                    "terminationGracePeriodSeconds": DEREGISTRATION_SECONDS + deployment.grace_seconds,
                    "securityContext": {"runAsNonRoot": True, "runAsUser": UNPRIVILEGED_USER},
                    "containers": [_container(model, deployment)],
                    "volumes": [
                        {"name": "config", "configMap": {"name": NAME}},
                        {
                            "name": "models",
                            "persistentVolumeClaim": {"claimName": deployment.volume_claim, "readOnly": True},
                        },
                    ],
                },
            },
        },
    }


def _container(model: str, deployment: Deployment) -> dict:
    # The server opens its ports once every model is loaded, so any model's status tells that it is ready. A load that
    # takes long must not look like a death, so only the port decides about life.
    status = {"httpGet": {"path": f"/v1/models/{model}", "port": "rest"}, "timeoutSeconds": 5}
    memory = f"{deployment.memory_gib}Gi"
    return {
        "name": "serving",
        "image": deployment.image,
        "args": deployment.server_flags(),
        "ports": [{"name": "grpc", "containerPort": GRPC_PORT}, {"name": "rest", "containerPort": REST_PORT}],
        "resources": {
            "requests": {"cpu": str(deployment.cpus), "memory": memory},
            "limits": {"memory": memory},
        },
        "startupProbe": {**status, "periodSeconds": 5, "failureThreshold": START_SECONDS // 5},
        "readinessProbe": {**status, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {"tcpSocket": {"port": "grpc"}, "periodSeconds": 10, "failureThreshold": 6},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(DEREGISTRATION_SECONDS)]}}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "config", "mountPath": "/config", "readOnly": True},
            {"name": "models", "mountPath": "/models", "readOnly": True},
        ],
    }
