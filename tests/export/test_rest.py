import base64
import http.client
import json
import math
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from export.server import LocalServer
from export.server.errors import StatusError
from export.server.json_tensors import parse_predict, render_predict
from export.server.tensors import to_proto


def ask(endpoint, path, body=None, method=None):
    """Returns the HTTP status and the parsed JSON of an answer."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(endpoint.rest_url + path, data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.headers["Content-Type"] == "application/json"
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text else None


def b64(photo):
    return {"b64": base64.b64encode(photo).decode()}


# What both servers answer.


@pytest.mark.parametrize("path", ["/v1/models/descriptor", "/v1/models/descriptor/versions/1", "/V1/Models/descriptor"])
def test_status(endpoint, path):
    status, answer = ask(endpoint, path)
    assert status == 200
    assert answer == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    assert json_format.ParseDict(answer, get_model_status_pb2.GetModelStatusResponse())


@pytest.mark.parametrize("path", ["/v1/models/descriptor/metadata", "/v1/models/descriptor/versions/1/metadata"])
def test_metadata_parses_as_signatures(endpoint, path):
    status, answer = ask(endpoint, path)
    assert status == 200
    assert answer["model_spec"]["name"] == "descriptor"
    assert answer["model_spec"]["version"] == "1"
    signatures = json_format.ParseDict(
        answer["metadata"]["signature_def"], get_model_metadata_pb2.SignatureDefMap(), ignore_unknown_fields=True
    )
    outputs = signatures.signature_def["serving_default"].outputs
    assert [dim.size for dim in outputs["descriptors"].tensor_shape.dim] == [-1, 4]


@pytest.mark.parametrize("path", ["/v1/models/descriptor:predict", "/v1/models/descriptor/versions/1:predict"])
@pytest.mark.parametrize("signature", [{}, {"signature_name": "serving_default"}])
def test_one_input_needs_no_name(endpoint, photos, expected, path, signature):
    bodies = {
        "plain rows": {"instances": [b64(photo) for photo in photos]},
        "named rows": {"instances": [{"image_bytes": b64(photo)} for photo in photos]},
        "plain column": {"inputs": [b64(photo) for photo in photos]},
        "named column": {"inputs": {"image_bytes": [b64(photo) for photo in photos]}},
    }
    for kind, body in bodies.items():
        status, answer = ask(endpoint, path, {**body, **signature})
        assert status == 200, (kind, answer)
        (key,) = answer
        assert key == ("predictions" if "rows" in kind else "outputs")
        np.testing.assert_allclose(answer[key], expected, atol=1e-6, err_msg=kind)


def test_two_inputs_by_row(pair_endpoint):
    body = {"instances": [{"values": [1, 2.5], "ids": 5}, {"values": [3, 4], "ids": 6}]}
    status, answer = ask(pair_endpoint, "/v1/models/pair:predict", body)
    assert status == 200
    assert answer["predictions"] == [
        {"total": 3.5, "next": 6, "word_bytes": b64(b"5")},
        {"total": 7.0, "next": 7, "word_bytes": b64(b"6")},
    ]


def test_two_inputs_by_column(pair_endpoint):
    body = {"inputs": {"values": [[1, 2.5], [3, 4]], "ids": [5, 6]}}
    status, answer = ask(pair_endpoint, "/v1/models/pair:predict", body)
    assert status == 200
    assert answer["outputs"] == {"total": [3.5, 7.0], "next": [6, 7], "word_bytes": [b64(b"5"), b64(b"6")]}


def test_strings_not_named_bytes_are_plain(pair_endpoint):
    body = {"signature_name": "named", "instances": [4.0]}
    _, answer = ask(pair_endpoint, "/v1/models/pair:predict", body)
    assert answer["predictions"][0]["y"] == 2.0
    assert answer["predictions"][0]["words"].startswith("4.0")


DESCRIPTOR, PAIR = "/v1/models/descriptor:predict", "/v1/models/pair:predict"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("GET", "/v1/models", None, 400, "Missing model name in request."),
        ("GET", "/v1/models/other", None, 404, "Could not find any versions of model other"),
        ("GET", "/v1/models/descriptor/versions/7", None, 404, "Could not find version 7 of model descriptor"),
        ("GET", "/v1/models/other/metadata", None, 404, "Servable not found for request: Latest(other)"),
        ("GET", "/v1/foo", None, 400, "Malformed request: GET /v1/foo"),
        ("GET", DESCRIPTOR, None, 400, f"Malformed request: GET {DESCRIPTOR}"),
        ("POST", "/v1/models/descriptor", b"{}", 400, "Malformed request: POST /v1/models/descriptor"),
        ("POST", "/v1/models/other:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(other)"),
        (
            "POST",
            "/v1/models/descriptor/versions/7:predict",
            {"instances": [1]},
            404,
            "Servable not found for request: Specific(descriptor, 7)",
        ),
        (
            "POST",
            f"/v1/models/descriptor/versions/{2**64}:predict",
            b"",
            400,
            f"Failed to convert version: {2**64} to numeric.",
        ),
        ("POST", "/v1/models/descriptor/labels/x:predict", {"instances": [1]}, 400, "label"),
        ("POST", DESCRIPTOR, b"", 400, "JSON Parse error: The document is empty"),
        ("POST", DESCRIPTOR, b"instances = [1, 2]", 400, "JSON Parse error: "),
        ("POST", DESCRIPTOR, b"[1]", 400, "Is not object"),
        ("POST", DESCRIPTOR, {"signature_name": 100}, 400, "'signature_name' key must be a string value."),
        (
            "POST",
            DESCRIPTOR,
            {"signature_name": "nope", "instances": [1]},
            400,
            'Serving signature name: "nope" not found in signature def',
        ),
        ("POST", DESCRIPTOR, {}, 400, "Missing 'inputs' or 'instances' key"),
        ("POST", DESCRIPTOR, {"instances": [1], "inputs": [1]}, 400, "expecting only one of 'inputs' or 'instances'"),
        ("POST", DESCRIPTOR, {"instances": 1}, 400, "Excepting 'instances' to be an list/array"),
        ("POST", DESCRIPTOR, {"instances": []}, 400, "No values in 'instances' array"),
        ("POST", DESCRIPTOR, {"instances": [1]}, 400, "Type: Number is not of expected type: string"),
        ("POST", DESCRIPTOR, {"instances": [{"b64": "?"}]}, 400, "Unable to base64 decode"),
        ("POST", DESCRIPTOR, {"inputs": [{"b64": "aa", "x": 1}]}, 400, "not formatted correctly for base64 data"),
        ("POST", DESCRIPTOR, {"instances": ["a", ["b"]]}, 400, "Failed to process element: 1 of 'instances' list."),
        (
            "POST",
            DESCRIPTOR,
            {"instances": [{"nope": "a"}]},
            400,
            "Failed to process element: 0 key: nope of 'instances' list.",
        ),
        (
            "POST",
            DESCRIPTOR,
            {"instances": [{"image_bytes": "a"}, "b"]},
            400,
            "Expecting object but got list at item 1 of input list",
        ),
        (
            "POST",
            DESCRIPTOR,
            {"instances": ["b", {"image_bytes": "a"}]},
            400,
            "Expecting value/list but got object at item 1 of input list",
        ),
        ("POST", DESCRIPTOR, {"inputs": {"nope": ["a"]}}, 400, "Missing named input: image_bytes in 'inputs' object."),
        ("POST", DESCRIPTOR, {"instances": [b64(b"not an image")]}, 400, "Unknown image file format"),
    ],
)
def test_wrong_requests(endpoint, method, path, body, status, told):
    found, answer = ask(endpoint, path, body, method)
    assert found == status
    assert set(answer) == {"error"}
    assert told in answer["error"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"instances": [1]}, "instances is a plain list, but expecting list of objects"),
        ({"inputs": [1]}, "inputs is a plain value/list, but expecting an object"),
        ({"instances": [{"ids": 1}]}, "must"),
        ({"instances": [{"values": [1, "x"], "ids": 1}]}, "Type: String is not of expected type: float"),
        ({"instances": [{"values": [1, 2], "ids": 1.5}]}, "is not of expected type: int64"),
        ({"instances": [{"values": [1, 2], "ids": True}]}, "Type: True is not of expected type: int64"),
        (
            {"instances": [{"values": [1, 2], "ids": 1}, {"values": [1], "ids": 1}]},
            "Expecting tensor size: 2 but got: 1",
        ),
        ({"inputs": {"values": [[1, 2], [3]], "ids": [1, 2]}}, "Encountered list at unexpected size: 1 at level: 1"),
        ({"inputs": {"values": [[1, 2], 3], "ids": [1, 2]}}, "found at incorrect level: 2 in the JSON DOM"),
        ({"inputs": {"values": [1, [2]], "ids": [1, 2]}}, "Encountered list at unexpected level: 1 expected < 1"),
        ({"inputs": {"values": [[2**24 + 1, 2]], "ids": [1]}}, "to float without loss of precision."),
    ],
)
def test_wrong_values(pair_endpoint, body, told):
    status, answer = ask(pair_endpoint, PAIR, body)
    assert status == 400
    assert told in answer["error"]


def test_the_time_limit_answers_504(pair_base, make_endpoint):
    with LocalServer("pair", pair_base, rest_api_timeout_in_ms=100) as server:
        status, answer = ask(make_endpoint(server), PAIR, {"signature_name": "slow", "inputs": 10**7})
    assert status == 504
    assert set(answer) == {"error"}


# What the local server adds or decides for itself.


@pytest.fixture
def local(endpoint):
    if not endpoint.is_local:
        pytest.skip("the local server's own choice")
    return endpoint


def test_refused_rows_are_named(local, photos):
    status, answer = ask(local, DESCRIPTOR, {"instances": [b64(photos[0]), b64(b"not an image"), b64(photos[1])]})
    assert status == 400
    assert answer["error"].startswith("image_bytes[1]: Unknown image file format")
    assert ask(local, DESCRIPTOR, {"instances": [b64(photos[0])]})[0] == 200


def test_paths_outside_the_api(local):
    assert ask(local, "/")[0] == 404
    assert ask(local, "/v1/models/descriptor:classify", {"examples": []})[0] == 501
    assert ask(local, DESCRIPTOR, b"", "PUT")[0] == 400


def test_photos_are_not_repeated_in_messages(local, photos):
    _, answer = ask(local, DESCRIPTOR, {"instances": {"x": b64(photos[0] * 50)}})
    assert len(answer["error"]) < 300


def test_large_bodies_are_refused(photo_base, make_endpoint, photos):
    with LocalServer("descriptor", photo_base, rest_api_max_body_bytes=100) as server:
        connection = http.client.HTTPConnection(urlsplit(server.rest_url).netloc)
        connection.request("POST", DESCRIPTOR, b"x" * 2**22)
        response = connection.getresponse()
        assert response.status == 413
        assert "larger than 100 bytes" in json.loads(response.read())["error"]
        assert ask(make_endpoint(server), "/v1/models/descriptor")[0] == 200


def test_one_connection_carries_many_requests(local, photos):
    connection = http.client.HTTPConnection(urlsplit(local.rest_url).netloc)
    body = json.dumps({"instances": [b64(photos[0])]})
    for wrong in (False, True, False):
        connection.request("POST", DESCRIPTOR, "{" if wrong else body)
        response = connection.getresponse()
        assert response.status == (400 if wrong else 200)
        response.read()
    connection.request("POST", DESCRIPTOR, iter([body.encode()]), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 400
    assert "Content-Length" in json.loads(response.read())["error"]


# JSON and tensors, without a server.


def parsed(body, dtype, **more):
    infos = {"x": meta_graph_pb2.TensorInfo(name="x:0", dtype=tf.as_dtype(dtype).as_datatype_enum)}
    request = predict_pb2.PredictRequest()
    rows = parse_predict(json.dumps(body).encode(), lambda name: infos, request)
    assert rows == ("instances" in body)
    return tf.make_ndarray(request.inputs["x"])


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float32", [[1.5, -2.0], [math.inf, 0.1]]),
        ("float64", [[1.5, -2.0], [-math.inf, 0.1]]),
        ("int8", [[1, -128], [127, 0]]),
        ("uint8", [[1, 255], [127, 0]]),
        ("int32", [[1, -(2**31)], [2**31 - 1, 0]]),
        ("int64", [[1, -(2**63)], [2**63 - 1, 0]]),
        ("uint32", [[1, 2**32 - 1], [0, 0]]),
        ("uint64", [[1, 2**64 - 1], [0, 0]]),
        ("bool", [[True, False], [False, False]]),
        ("string", [["a", "ü"], ["", "b"]]),
    ],
)
def test_values_go_through_json_and_back(dtype, values):
    array = parsed({"instances": values}, dtype)
    assert array.shape == (2, 2)
    np.testing.assert_array_equal(array, parsed({"inputs": values}, dtype))
    response = predict_pb2.PredictResponse()
    response.outputs["y"].CopyFrom(to_proto(array, tf.as_dtype(dtype)))
    assert json.loads(render_predict(response, rows=True)) == {"predictions": values}
    assert json.loads(render_predict(response, rows=False)) == {"outputs": values}


@pytest.mark.parametrize(
    ("dtype", "value"), [("int8", 128), ("uint8", -1), ("bool", 1), ("float32", False), ("string", None)]
)
def test_values_of_another_type_are_refused(dtype, value):
    with pytest.raises(StatusError, match="is not of expected type"):
        parsed({"inputs": [value]}, dtype)


def test_half_precision_inputs_are_unimplemented():
    with pytest.raises(StatusError, match="to type: half") as caught:
        parsed({"inputs": [1.0]}, "float16")
    assert caught.value.http_status == 501


def test_floats_are_written_short_and_read_back_exactly():
    array = np.concatenate([np.float32([0.2, 1 / 3, 3, 1e-30]), np.random.default_rng(0).normal(size=500)])
    array = array.astype(np.float32)
    response = predict_pb2.PredictResponse()
    response.outputs["y"].CopyFrom(to_proto(array, tf.float32))
    text = render_predict(response, rows=True)
    assert text.startswith('{"predictions": [0.2, 0.333333343, 3.0, 1e-30, ')
    np.testing.assert_array_equal(np.float32(json.loads(text)["predictions"]), array)


def test_outputs_that_cannot_be_cut_into_rows():
    response = predict_pb2.PredictResponse()
    response.outputs["a"].CopyFrom(to_proto(np.zeros(2), tf.float32))
    response.outputs["b"].CopyFrom(to_proto(np.zeros(3), tf.float32))
    with pytest.raises(StatusError, match="Tensor name: b has inconsistent batch size: 3 expecting: 2"):
        render_predict(response, rows=True)
    response.outputs["b"].CopyFrom(to_proto(1.0, tf.float32))
    with pytest.raises(StatusError, match="Tensor name: b has no shape information"):
        render_predict(response, rows=True)
    assert json.loads(render_predict(response, rows=False)) == {"outputs": {"a": [0.0, 0.0], "b": 1.0}}


@pytest.mark.parametrize("text", ["AQID", " AQID\n", "/+8=", "/+8"])
def test_base64_with_and_without_padding(text):
    (value,) = parsed({"inputs": [{"b64": text}]}, "string")
    assert value == base64.b64decode(text.strip() + "=" * (-len(text.strip()) % 4))


def test_deep_nesting_is_refused():
    with pytest.raises(StatusError, match="JSON Parse error"):
        parse_predict(b'{"inputs": ' + b"[" * 100_000, dict, predict_pb2.PredictRequest())
