"""What a server says about its models: signatures and the state of their versions."""

import grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from export.server.errors import StatusError, invalid
from export.server.models import ModelManager

SIGNATURE_DEF = "signature_def"


def get_model_metadata(
    models: ModelManager, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Answers with every signature of a version, packed as a `SignatureDefMap`.

    Raises:
        StatusError: INVALID_ARGUMENT without a model or with another field than `signature_def`, NOT_FOUND when the
            model or version is not loaded.
    """
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise invalid(f"Metadata field {field} is not supported")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with models.lease(request.model_spec) as servable:
        for name, signature in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = servable.version
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def get_model_status(
    models: ModelManager, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Answers with the state of one version or of every version seen so far.

    Raises:
        StatusError: INVALID_ARGUMENT without a model or for an unknown label, NOT_FOUND when the model or version was
            never seen.
    """
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    statuses = models.statuses(spec.name)
    version = models.version_of(spec)
    if version is not None:
        if version not in statuses:
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find version {version} of model {spec.name}")
        statuses = {version: statuses[version]}
    if not statuses:
        raise StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
    return get_model_status_pb2.GetModelStatusResponse(model_version_status=statuses.values())
