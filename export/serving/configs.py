"""The server's own configuration files, as text protos."""

from collections.abc import Iterable

from google.protobuf import message, text_format
from tensorflow_serving.config import model_server_config_pb2, platform_config_pb2

from export.server.config_protos import (
    POOL,
    BatchingParameters,
    MonitoringConfig,
    SavedModelBundleSourceAdapterConfig,
)
from export.server.metrics import DEFAULT_PATH
from export.server.model_config import PLATFORM
from export.serving.deployment import Deployment


def model_config(names: Iterable[str], deployment: Deployment) -> model_server_config_pb2.ModelServerConfig:
    """Returns the models, each at /models/NAME, with the versions that stay loaded."""
    config = model_server_config_pb2.ModelServerConfig()
    for name in names:
        model = config.model_config_list.config.add(name=name, base_path=f"/models/{name}", model_platform=PLATFORM)
        model.model_version_policy.latest.num_versions = deployment.num_versions
    return config


def batching_parameters(deployment: Deployment) -> BatchingParameters:
    """Returns how the server forms batches."""
    settings, proto = deployment.batching, BatchingParameters()
    for name in ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"):
        getattr(proto, name).value = getattr(settings, name)
    proto.thread_pool_name.value = settings.thread_pool_name
    return proto


def monitoring_config() -> MonitoringConfig:
    """Returns the configuration that turns the Prometheus page on."""
    config = MonitoringConfig()
    config.prometheus_config.enable = True
    config.prometheus_config.path = DEFAULT_PATH
    return config


def platform_config(deployment: Deployment) -> platform_config_pb2.PlatformConfigMap:
    """Returns the same settings for `--platform_config_file`, which stands for all flags of loading and batching."""
    adapter = SavedModelBundleSourceAdapterConfig()
    adapter.legacy_config.saved_model_tags.append("serve")
    adapter.legacy_config.enable_model_warmup = True
    if deployment.enable_batching:
        adapter.legacy_config.batching_parameters.CopyFrom(batching_parameters(deployment))
    config = platform_config_pb2.PlatformConfigMap()
    config.platform_configs[PLATFORM].source_adapter_config.Pack(adapter)
    return config


def text_of(proto: message.Message) -> str:
    """Returns a message as the text that the server reads."""
    return text_format.MessageToString(proto, descriptor_pool=POOL)
