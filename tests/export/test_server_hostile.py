"""Requests made to break the local server: each has to be answered as the client's fault."""

import json
import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_management_pb2

from export.server.errors import StatusError
from export.server.json_tensors import parse_predict
from export.server.tensors import dtype_text, from_proto

MIB = 2**20
PREDICT, PAIR = "/tensorflow.serving.PredictionService/Predict", "/v1/models/pair:predict"
OUTSIDE = [
    "../pair",
    "..",
    "pair/../pair",
    "/etc/passwd",
    "pair/1",
    "%2e%2e/pair",
    "pair\0",
    "PAIR",
    "p\u0430ir",
    "a" * 9999,
]


@pytest.fixture
def local(pair_endpoint):
    """The local server of the model `pair`."""
    if not pair_endpoint.is_local:
        pytest.skip("the local server's own choice")
    return pair_endpoint


def post(endpoint, path, body):
    request = urllib.request.Request(endpoint.rest_url + path, body)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def raw(endpoint, content):
    """Sends bytes and nothing more; returns the whole answer."""
    host, port = urlsplit(endpoint.rest_url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


# Messages.


@pytest.mark.parametrize(
    "method",
    [
        PREDICT,
        "/tensorflow.serving.PredictionService/GetModelMetadata",
        "/tensorflow.serving.ModelService/GetModelStatus",
        "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
        "/grpc.health.v1.Health/Check",
    ],
)
def test_bytes_that_are_no_message_are_the_clients_fault(local, refusal, method):
    call = local.channel.unary_unary(method)
    code, told = refusal(call, b"\xff\xff\xff")
    assert (code, told) == ("INVALID_ARGUMENT", f"The message does not parse as the request of {method}.")


def test_bytes_that_are_no_message_end_a_stream(local):
    watch = local.channel.unary_stream("/grpc.health.v1.Health/Watch")
    reflection = local.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    for answers in (watch(b"\xff\xff", timeout=10), reflection(iter([b"\xff\xff"]), timeout=10)):
        with pytest.raises(grpc.RpcError) as caught:
            list(answers)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def tensor(dtype, shape, **values):
    proto = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def test_a_tensor_may_be_filled_up_from_its_last_value_within_a_limit():
    found = from_proto(tensor(types_pb2.DT_FLOAT, [2, 3], float_val=[1, 2]), 24)
    np.testing.assert_array_equal(found, [[1, 2, 2], [2, 2, 2]])
    assert from_proto(tensor(types_pb2.DT_STRING, [3], string_val=[b"a", b"b"]), 27).tolist() == [b"a", b"b", b"b"]
    assert from_proto(tensor(types_pb2.DT_STRING, [2], string_val=[b"a" * 99] * 2), 10).tolist() == [b"a" * 99] * 2
    assert from_proto(tensor(types_pb2.DT_INT64, [0, 2**40]), 10).shape == (0, 2**40)


@pytest.mark.parametrize(
    "proto",
    [
        tensor(types_pb2.DT_FLOAT, [7], float_val=[1]),
        tensor(types_pb2.DT_FLOAT, [2**31, 2**31, 2**31], float_val=[1]),
        tensor(types_pb2.DT_FLOAT, [2**32, 2**32]),  # 2 ** 64 is 0 in 64 bits
        tensor(types_pb2.DT_FLOAT, [-1, -1], float_val=[1]),
        tensor(types_pb2.DT_FLOAT, [2, -1]),
        tensor(types_pb2.DT_FLOAT, [2], tensor_content=bytes(7)),
        tensor(types_pb2.DT_STRING, [10**12], string_val=[b"a"]),
        tensor(types_pb2.DT_STRING, [4], string_val=[b"a" * 9]),
        tensor(types_pb2.DT_STRING, [1], tensor_content=b"a"),
        tensor(types_pb2.DT_UINT8, [1], int_val=[300]),
        tensor(types_pb2.DT_UINT8, [1], int_val=[-1]),
        tensor(types_pb2.DT_FLOAT, [1] * 65, float_val=[1]),
        tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape={"unknown_rank": True}, float_val=[1]),
        tensor(types_pb2.DT_RESOURCE, [1]),
    ],
    ids=str,
)
def test_tensors_that_contradict_themselves_or_stand_for_too_much(proto):
    with pytest.raises(ValueError):
        from_proto(proto, 25)


def test_such_tensors_are_the_clients_fault(local, request_of, refusal):
    request = request_of("pair", "named", x=[1.0])
    for size in (2**40, -1):
        request.inputs["x"].tensor_shape.dim[0].size = size
        assert refusal(local.predictions.Predict, request) == ("INVALID_ARGUMENT", "tensor parsing error: x")
    request.inputs["x"].dtype = 12345
    code, told = refusal(local.predictions.Predict, request)
    assert code == "INVALID_ARGUMENT"
    assert told == "Expects arg[0] to be float but unknown dtype enum (12345) is provided"
    assert dtype_text(types_pb2.DT_HALF) == "half"


# JSON.


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": ' + b"9" * 5000 + b"}",
        b'{"inputs": ' + b"[" * 950 + b"1" + b"]" * 950 + b"}",
        b'{"inputs": ' + b"[" * 60 + b"1" + b"]" * 60 + b"}",
        b'{"inputs": ' + b'{"a":' * 950 + b"1" + b"}" * 950 + b"}",
        b"[" * 100_000,
        b'{"signature_name": "\\ud800", "inputs": [1]}',
        b'{"inputs": "\\ud800"}',
        b'\xff\xfe{"inputs": 1}',
        b'{"instances": [{"x": {"b64": "\\ud800"}}]}',
    ],
    ids=lambda body: repr(body[:30]),
)
@pytest.mark.parametrize("dtype", [tf.string, tf.float32])
def test_json_that_python_cannot_take_is_the_clients_fault(body, dtype):
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import predict_pb2

    infos = {"x": meta_graph_pb2.TensorInfo(dtype=dtype.as_datatype_enum)}
    with pytest.raises(StatusError) as caught:
        parse_predict(body, lambda _: infos, predict_pb2.PredictRequest())
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert len(caught.value.message) < 1100


# HTTP.


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET //[ HTTP/1.1", 404),
        ("POST http://[x]/v1/models/pair HTTP/1.1", 404),
        (f"POST /v1/models/pair/versions/{'9' * 5000}:predict HTTP/1.1", 400),
        ("POST /v1/models/pair:predict HTTP/9.9", 505),
        ("POST /v1/models/pair:predict HTTP/1", 400),
        ("POST /v1/models/pair:predict HTTP/1.1 more", 400),
        ("BREW /v1/models/pair HTTP/1.1", 501),
        ("GET /" + "a" * 70_000 + " HTTP/1.1", 414),
        ("POST /v1/models/pair:predict HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3", 400),
        ("POST /v1/models/pair:predict HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked", 400),
        ("GET /v1/models/pair HTTP/1.1\r\n" + "\r\n".join(f"H{n}: x" for n in range(200)), 431),
        ("GET /v1/models/pair HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0", 200),
    ],
)
def test_every_request_of_http_is_answered_with_a_status(local, line, status):
    answer = raw(local, f"{line}\r\nHost: x\r\n\r\n".encode())
    assert answer.split(b"\r\n", 1)[0].split()[:2] == [b"HTTP/1.1", str(status).encode()]
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])


# Names that lead elsewhere.


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_the_models(local, request_of, refusal, name):
    status, metadata = get_model_status_pb2.GetModelStatusRequest(), get_model_metadata_pb2.GetModelMetadataRequest()
    status.model_spec.name = metadata.model_spec.name = name
    metadata.metadata_field.append("signature_def")
    asked = [(local.predictions.Predict, request_of(name, "named", x=[1.0])), (local.models.GetModelStatus, status)]
    for call, request in [*asked, (local.predictions.GetModelMetadata, metadata)]:
        assert refusal(call, request)[0] == "NOT_FOUND"
    labelled = request_of("pair", "named", label=name, x=[1.0])
    assert refusal(local.predictions.Predict, labelled)[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/../pair:predict", "/v1/models/%2e%2e%2fpair:predict", "/v1/models/..%2f..%2fetc%2fpasswd:predict",
        "/v1/models/pair/../pair:predict", "/v1/models/pair/versions/..%2f1:predict", "/v1/models/pair%00:predict",
        "/v1/models/pair/versions/1/../1:predict", "/v1/models/pair/labels/..%2f1:predict",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_models(local, path):
    status, answer = post(local, path, b'{"signature_name": "named", "inputs": [1.0]}')
    assert status in (400, 404)
    assert set(answer) == {"error"}


@pytest.mark.parametrize(
    ("name", "base_path", "code"),
    [
        ("../../etc", "/x", "INVALID_ARGUMENT"),
        ("a/b", "/x", "INVALID_ARGUMENT"),
        ("a", "relative", "INVALID_ARGUMENT"),
        ("a", "/models/../../etc", "INVALID_ARGUMENT"),
        ("a", "/models/..", "INVALID_ARGUMENT"),
        ("a", "/models\0/1", "INVALID_ARGUMENT"),
        ("a", "/nowhere", "FAILED_PRECONDITION"),
        ("a", "/dev/null", "FAILED_PRECONDITION"),
        ("a", "/proc", "FAILED_PRECONDITION"),
        ("a", "/" + "a" * 5000, "FAILED_PRECONDITION"),
    ],
    ids=lambda value: value[:20],
)
def test_a_hostile_configuration_changes_nothing(local, request_of, refusal, name, base_path, code):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name=name, base_path=base_path, model_platform="tensorflow")
    assert refusal(local.models.HandleReloadConfigRequest, request)[0] == code
    assert local.predictions.Predict(request_of("pair", "named", x=[1.0]), timeout=10).outputs
