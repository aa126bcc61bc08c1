"""The configuration messages of TensorFlow Serving that its Python package leaves out.

tensorflow-serving-api holds ModelServerConfig and PlatformConfigMap. SSLConfig, MonitoringConfig, BatchingParameters
and what a PlatformConfigMap wraps are declared here, field by field as in TensorFlow Serving's public .proto files
(tensorflow_serving/config and tensorflow_serving/servables/tensorflow), in a pool of their own, so that files written
for the real server are read by the same rules.
"""

from google.protobuf import descriptor, descriptor_pb2, descriptor_pool, message, message_factory, wrappers_pb2
from tensorflow.core.protobuf import config_pb2

_PACKAGE = "tensorflow.serving"
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"bool": _FIELD.TYPE_BOOL, "string": _FIELD.TYPE_STRING, "int64": _FIELD.TYPE_INT64}
_INT64, _BOOL, _TEXT = (f"google.protobuf.{name}Value" for name in ("Int64", "Bool", "String"))

# Message -> fields as (name, number, type); "repeated" stands before the type, another message is named in full.
_MESSAGES = {
    "SSLConfig": [
        ("server_key", 1, "string"),
        ("server_cert", 2, "string"),
        ("custom_ca", 3, "string"),
        ("client_verify", 4, "bool"),
    ],
    "PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
    "MonitoringConfig": [("prometheus_config", 1, f"{_PACKAGE}.PrometheusConfig")],
    "BatchingParameters": [
        ("max_batch_size", 1, _INT64),
        ("batch_timeout_micros", 2, _INT64),
        ("max_enqueued_batches", 3, _INT64),
        ("num_batch_threads", 4, _INT64),
        ("thread_pool_name", 5, _TEXT),
        ("allowed_batch_sizes", 6, "repeated int64"),
        ("pad_variable_length_inputs", 7, "bool"),
        ("enable_large_batch_splitting", 8, _BOOL),
        ("max_execution_batch_size", 9, _INT64),
    ],
    "SessionBundleConfig": [
        ("session_target", 1, "string"),
        ("session_config", 2, "tensorflow.ConfigProto"),
        ("batching_parameters", 3, f"{_PACKAGE}.BatchingParameters"),
        ("saved_model_tags", 6, "repeated string"),
        ("enable_model_warmup", 779, "bool"),
    ],
    "SavedModelBundleSourceAdapterConfig": [("legacy_config", 1000, f"{_PACKAGE}.SessionBundleConfig")],
}


def _declare() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for needed in (wrappers_pb2.DESCRIPTOR, config_pb2.DESCRIPTOR):
        _copy(needed, pool, set())
    file = descriptor_pb2.FileDescriptorProto(
        name="tfretrieval/serving_configs.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name, config_pb2.DESCRIPTOR.name],
    )
    for name, fields in _MESSAGES.items():
        declared = file.message_type.add(name=name)
        for field, number, kind in fields:
            label, kind = (_FIELD.LABEL_REPEATED, kind.split()[1]) if " " in kind else (_FIELD.LABEL_OPTIONAL, kind)
            entry = declared.field.add(name=field, number=number, label=label)
            entry.type = _SCALARS.get(kind, _FIELD.TYPE_MESSAGE)
            if kind not in _SCALARS:
                entry.type_name = f".{kind}"
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _copy(file: descriptor.FileDescriptor, pool: descriptor_pool.DescriptorPool, copied: set[str]) -> None:
    """Adds a file and what it imports to a pool, each once."""
    for needed in file.dependencies:
        _copy(needed, pool, copied)
    if file.name not in copied:
        copied.add(file.name)
        pool.AddSerializedFile(file.serialized_pb)


POOL = _declare()


def _message(name: str) -> type[message.Message]:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


SSLConfig = _message("SSLConfig")
MonitoringConfig = _message("MonitoringConfig")
BatchingParameters = _message("BatchingParameters")
SavedModelBundleSourceAdapterConfig = _message("SavedModelBundleSourceAdapterConfig")
