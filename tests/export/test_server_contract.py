import re

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from export.server.bad_rows import MAX_NAMED_ROWS

UNREADABLE = "Unknown image file format"


# What both servers answer.


def test_predict_equals_the_saved_model_for_photos_of_mixed_sizes(endpoint, photos, expected, request_of):
    response = endpoint.predictions.Predict(request_of(image_bytes=photos))
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["descriptors"]), expected, atol=1e-6)
    assert response.model_spec.name == "descriptor"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"


def test_the_answer_stands_in_typed_values(endpoint, photos, request_of):
    tensor = endpoint.predictions.Predict(request_of(image_bytes=photos[:2])).outputs["descriptors"]
    assert len(tensor.float_val) == 8
    assert not tensor.tensor_content


def test_an_empty_batch_has_no_descriptors(endpoint, request_of):
    response = endpoint.predictions.Predict(request_of(image_bytes=np.array([], object)))
    assert tf.make_ndarray(response.outputs["descriptors"]).shape == (0, 4)


def test_two_inputs_and_an_output_filter(pair_endpoint, request_of):
    inputs = {"values": np.array([[1, 2], [3, 4]], np.float32), "ids": np.array([5, 6], np.int64)}
    outputs = pair_endpoint.predictions.Predict(request_of("pair", **inputs)).outputs
    assert set(outputs) == {"total", "next", "word_bytes"}
    assert tf.make_ndarray(outputs["total"]).tolist() == [3, 7]
    assert tf.make_ndarray(outputs["word_bytes"]).tolist() == [b"5", b"6"]
    filtered = pair_endpoint.predictions.Predict(request_of("pair", outputs=["next"], **inputs)).outputs
    assert tf.make_ndarray(filtered["next"]).tolist() == [6, 7]
    assert set(filtered) == {"next"}


def test_metadata_gives_the_signatures(endpoint):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "descriptor"
    response = endpoint.predictions.GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert signature.inputs["image_bytes"].dtype == tf.string.as_datatype_enum
    assert [dim.size for dim in signature.outputs["descriptors"].tensor_shape.dim] == [-1, 4]
    assert response.model_spec.version.value == 1


def test_status_is_available(endpoint):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "descriptor"
    (status,) = endpoint.models.GetModelStatus(request).model_version_status
    assert (status.version, status.state) == (1, status.AVAILABLE)
    assert status.status.error_code == 0


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"model": "other", "image_bytes": [b""]}, "NOT_FOUND", "Servable not found for request: Latest(other)"),
        (
            {"version": 7, "image_bytes": [b""]},
            "NOT_FOUND",
            "Servable not found for request: Specific(descriptor, 7)",
        ),
        ({"model": ""}, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (
            {"signature": "nope", "image_bytes": [b""]},
            "FAILED_PRECONDITION",
            'Serving signature key "nope" not found.',
        ),
        ({}, "INVALID_ARGUMENT", "Missing but required: {image_bytes}"),
        (
            {"image_bytes": [b""], "other": [1]},
            "INVALID_ARGUMENT",
            "input size does not match signature: 2!=1 len({image_bytes,other}) != len({image_bytes}). "
            "Sent extra: {other}. Missing but required: {}.",
        ),
        (
            {"outputs": ["nope"], "image_bytes": [b""]},
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: nope Outputs expected to be in the set {descriptors}.",
        ),
        (
            {"outputs": ["descriptors"] * 2, "image_bytes": [b""]},
            "INVALID_ARGUMENT",
            "duplicate output tensor alias: descriptors",
        ),
        ({"image_bytes": [1.0]}, "INVALID_ARGUMENT", "Expects arg[0] to be string but float is provided"),
        ({"label": "canary"}, "INVALID_ARGUMENT", "Unrecognized servable version label: canary"),
        ({"model": "../descriptor", "image_bytes": [b""]}, "NOT_FOUND", "Latest(../descriptor)"),
        ({"model": "/etc", "image_bytes": [b""]}, "NOT_FOUND", "Latest(/etc)"),
    ],
)
def test_wrong_predict_requests(endpoint, request_of, refusal, fields, code, told):
    found, details = refusal(endpoint.predictions.Predict, request_of(**fields))
    assert found == code
    assert told in details


def test_a_request_without_a_model(endpoint, refusal):
    found = refusal(endpoint.predictions.Predict, predict_pb2.PredictRequest())
    assert found == ("INVALID_ARGUMENT", "Missing ModelSpec")


def test_a_tensor_that_does_not_parse(endpoint, request_of, refusal):
    request = request_of(image_bytes=[b"x"])
    request.inputs["image_bytes"].tensor_content = b"\xff" * 10
    request.inputs["image_bytes"].tensor_shape.dim[0].size = -3
    code, details = refusal(endpoint.predictions.Predict, request)
    assert (code, details) == ("INVALID_ARGUMENT", "tensor parsing error: image_bytes")


@pytest.mark.parametrize(
    ("fields", "spec", "code", "told"),
    [
        (["signature_def"], None, "INVALID_ARGUMENT", "Missing ModelSpec"),
        ([], "descriptor", "INVALID_ARGUMENT", "must specify at least one metadata_field"),
        (["other"], "descriptor", "INVALID_ARGUMENT", "is not supported"),
        (["signature_def"], "other", "NOT_FOUND", "Servable not found for request: Latest(other)"),
    ],
)
def test_wrong_metadata_requests(endpoint, fields, spec, code, told, refusal):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    if spec:
        request.model_spec.name = spec
    found, details = refusal(endpoint.predictions.GetModelMetadata, request)
    assert found == code
    assert told in details


def test_wrong_status_requests(endpoint, refusal):
    request = get_model_status_pb2.GetModelStatusRequest()
    assert refusal(endpoint.models.GetModelStatus, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name = "other"
    told = ("NOT_FOUND", "Could not find any versions of model other")
    assert refusal(endpoint.models.GetModelStatus, request) == told
    request.model_spec.name, request.model_spec.version.value = "descriptor", 7
    told = ("NOT_FOUND", "Could not find version 7 of model descriptor")
    assert refusal(endpoint.models.GetModelStatus, request) == told


def test_a_refused_photo_leaves_the_server_alive(endpoint, photos, expected, request_of, refusal):
    code, details = refusal(endpoint.predictions.Predict, request_of(image_bytes=[*photos, b"not an image"]))
    assert code == "INVALID_ARGUMENT"
    assert UNREADABLE in details
    again = endpoint.predictions.Predict(request_of(image_bytes=photos))
    np.testing.assert_allclose(tf.make_ndarray(again.outputs["descriptors"]), expected, atol=1e-6)


def test_a_deadline_ends_a_slow_prediction(pair_endpoint, request_of, refusal):
    request = request_of("pair", "slow", steps=np.int32(10**7))
    code, _ = refusal(pair_endpoint.predictions.Predict, request, timeout=0.3)
    assert code == "DEADLINE_EXCEEDED"


# What the local server adds or decides for itself.


@pytest.fixture
def local(endpoint):
    if not endpoint.is_local:
        pytest.skip("the real server does not name rows")
    return endpoint


def test_refused_rows_are_named_in_one_sentence(local, photos, request_of, refusal):
    batch = [photos[0], b"", photos[1], b"not an image", photos[2]]
    _, details = refusal(local.predictions.Predict, request_of(image_bytes=batch))
    empty, unreadable = details.split("; ")
    assert empty == "image_bytes[1]: Input is empty."
    assert unreadable.startswith(f"image_bytes[3]: {UNREADABLE}")
    assert "{{node" not in details


def test_a_single_refused_row_is_named(local, request_of, refusal):
    _, details = refusal(local.predictions.Predict, request_of(image_bytes=[b"not an image"]))
    assert details.startswith(f"image_bytes[0]: {UNREADABLE}")


def test_many_refused_rows_name_the_first_ones(local, photos, request_of, refusal):
    _, details = refusal(local.predictions.Predict, request_of(image_bytes=[photos[0], *[b"no"] * 40]))
    assert re.findall(r"image_bytes\[(\d+)\]", details) == [str(row) for row in range(1, MAX_NAMED_ROWS + 1)]
    assert details.endswith("(not checked from row 9 on)")


def test_rows_of_two_inputs_are_named_as_instances(pair_endpoint, request_of, refusal):
    if not pair_endpoint.is_local:
        pytest.skip("the real server does not name rows")
    inputs = {"values": np.zeros((4, 2), np.float32), "ids": np.array([1, 2, -3, 4], np.int64)}
    code, details = refusal(pair_endpoint.predictions.Predict, request_of("pair", **inputs))
    assert code == "INVALID_ARGUMENT"
    assert re.match(r"instances\[2\]: .*an id is negative", details)


def test_a_model_that_names_rows_is_left_to_speak(pair_endpoint, request_of, refusal):
    x = np.array([1, -1, 2], np.float32)
    code, details = refusal(pair_endpoint.predictions.Predict, request_of("pair", "named", x=x))
    assert code == "INVALID_ARGUMENT"
    assert details == "x[7]: is not positive"


def test_rows_are_counted_in_the_batch_though_the_model_counts_in_a_part(pair_endpoint, request_of, refusal):
    if not pair_endpoint.is_local:
        pytest.skip("the real server does not name rows")
    x = np.array([4, 100, -4, 9], np.float32)
    code, details = refusal(pair_endpoint.predictions.Predict, request_of("pair", "half_named", x=x))
    assert code == "INVALID_ARGUMENT"
    assert details == "x[1]: too large; x[2]: is not positive"


@pytest.mark.parametrize("value", [b"scalar", [[b"a", b"b"]]])
def test_a_shape_that_the_signature_does_not_allow(local, value, request_of, refusal):
    code, details = refusal(local.predictions.Predict, request_of(image_bytes=value))
    assert code == "INVALID_ARGUMENT"
    assert details.endswith("the signature wants [-1]")


def test_other_apis_are_unimplemented(local, refusal):
    code, details = refusal(local.predictions.Classify, classification_pb2.ClassificationRequest())
    assert code == "UNIMPLEMENTED"
    assert "local server" in details


def test_a_message_above_grpcs_own_limit_passes(local, photos, request_of):
    padded = photos[0] + bytes(5 * 2**20)  # PNG readers stop at the end mark
    response = local.predictions.Predict(request_of(image_bytes=[padded]))
    assert tf.make_ndarray(response.outputs["descriptors"]).shape == (1, 4)
