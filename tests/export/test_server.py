import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
)

from export.server import LocalServer
from export.server.errors import MAX_MESSAGE, StatusError, useful_line
from export.server.models import complete_versions
from export.server.predict import MAX_NAMED_ROWS, find_bad_rows
from tfretrieval.errors import InputError

UNREADABLE = "Unknown image file format"


def request_of(model="descriptor", signature="", version=None, outputs=(), **inputs):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


def refusal(call, request, timeout=10):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=timeout)
    return caught.value.code(), caught.value.details()


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


# What both servers answer.


def test_predict_equals_the_saved_model_for_photos_of_mixed_sizes(endpoint, photos, expected):
    response = endpoint.predictions.Predict(request_of(image_bytes=photos))
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["descriptors"]), expected, atol=1e-6)
    assert response.model_spec.name == "descriptor"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"


def test_the_answer_stands_in_typed_values(endpoint, photos):
    tensor = endpoint.predictions.Predict(request_of(image_bytes=photos[:2])).outputs["descriptors"]
    assert len(tensor.float_val) == 8
    assert not tensor.tensor_content


def test_an_empty_batch_has_no_descriptors(endpoint):
    response = endpoint.predictions.Predict(request_of(image_bytes=np.array([], object)))
    assert tf.make_ndarray(response.outputs["descriptors"]).shape == (0, 4)


def test_two_inputs_and_an_output_filter(pair_endpoint):
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
    ("request_", "code", "told"),
    [
        (request_of("other", image_bytes=[b""]), "NOT_FOUND", "Servable not found for request: Latest(other)"),
        (
            request_of(version=7, image_bytes=[b""]),
            "NOT_FOUND",
            "Servable not found for request: Specific(descriptor, 7)",
        ),
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (request_of(""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (
            request_of(signature="nope", image_bytes=[b""]),
            "FAILED_PRECONDITION",
            'Serving signature key "nope" not found.',
        ),
        (request_of(), "INVALID_ARGUMENT", "Missing but required: {image_bytes}"),
        (
            request_of(image_bytes=[b""], other=[1]),
            "INVALID_ARGUMENT",
            "input size does not match signature: 2!=1 len({image_bytes,other}) != len({image_bytes}). "
            "Sent extra: {other}. Missing but required: {}.",
        ),
        (
            request_of(outputs=["nope"], image_bytes=[b""]),
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: nope Outputs expected to be in the set {descriptors}.",
        ),
        (
            request_of(outputs=["descriptors"] * 2, image_bytes=[b""]),
            "INVALID_ARGUMENT",
            "duplicate output tensor alias: descriptors",
        ),
        (
            request_of(image_bytes=[1.0]),
            "INVALID_ARGUMENT",
            "Expects arg[0] to be string but float is provided",
        ),
        (
            predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="descriptor", version_label="canary")),
            "INVALID_ARGUMENT",
            "version",
        ),
    ],
)
def test_wrong_predict_requests(endpoint, request_, code, told):
    found, details = refusal(endpoint.predictions.Predict, request_)
    assert found == grpc.StatusCode[code]
    assert told in details


def test_a_tensor_that_does_not_parse(endpoint):
    request = request_of(image_bytes=[b"x"])
    request.inputs["image_bytes"].tensor_content = b"\xff" * 10
    request.inputs["image_bytes"].tensor_shape.dim[0].size = -3
    code, details = refusal(endpoint.predictions.Predict, request)
    assert (code, details) == (grpc.StatusCode.INVALID_ARGUMENT, "tensor parsing error: image_bytes")


@pytest.mark.parametrize(
    ("fields", "spec", "code", "told"),
    [
        (["signature_def"], None, "INVALID_ARGUMENT", "Missing ModelSpec"),
        ([], "descriptor", "INVALID_ARGUMENT", "must specify at least one metadata_field"),
        (["other"], "descriptor", "INVALID_ARGUMENT", "is not supported"),
        (["signature_def"], "other", "NOT_FOUND", "Servable not found for request: Latest(other)"),
    ],
)
def test_wrong_metadata_requests(endpoint, fields, spec, code, told):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    if spec:
        request.model_spec.name = spec
    found, details = refusal(endpoint.predictions.GetModelMetadata, request)
    assert found == grpc.StatusCode[code]
    assert told in details


def test_wrong_status_requests(endpoint):
    request = get_model_status_pb2.GetModelStatusRequest()
    assert refusal(endpoint.models.GetModelStatus, request) == (grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
    request.model_spec.name = "other"
    told = (grpc.StatusCode.NOT_FOUND, "Could not find any versions of model other")
    assert refusal(endpoint.models.GetModelStatus, request) == told
    request.model_spec.name, request.model_spec.version.value = "descriptor", 7
    told = (grpc.StatusCode.NOT_FOUND, "Could not find version 7 of model descriptor")
    assert refusal(endpoint.models.GetModelStatus, request) == told


def test_a_refused_photo_leaves_the_server_alive(endpoint, photos, expected):
    code, details = refusal(endpoint.predictions.Predict, request_of(image_bytes=[*photos, b"not an image"]))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert UNREADABLE in details
    again = endpoint.predictions.Predict(request_of(image_bytes=photos))
    np.testing.assert_allclose(tf.make_ndarray(again.outputs["descriptors"]), expected, atol=1e-6)


def test_a_deadline_ends_a_slow_prediction(pair_endpoint):
    request = request_of("pair", "slow", steps=np.int32(10**7))
    code, _ = refusal(pair_endpoint.predictions.Predict, request, timeout=0.3)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED


# What the local server adds or decides for itself.


@pytest.fixture
def local(endpoint):
    if not endpoint.is_local:
        pytest.skip("the real server does not name rows")
    return endpoint


def test_refused_rows_are_named_in_one_sentence(local, photos):
    batch = [photos[0], b"", photos[1], b"not an image", photos[2]]
    _, details = refusal(local.predictions.Predict, request_of(image_bytes=batch))
    empty, unreadable = details.split("; ")
    assert empty == "image_bytes[1]: Input is empty."
    assert unreadable.startswith(f"image_bytes[3]: {UNREADABLE}")
    assert "{{node" not in details


def test_a_single_refused_row_is_named(local):
    _, details = refusal(local.predictions.Predict, request_of(image_bytes=[b"not an image"]))
    assert details.startswith(f"image_bytes[0]: {UNREADABLE}")


def test_many_refused_rows_name_the_first_ones(local, photos):
    _, details = refusal(local.predictions.Predict, request_of(image_bytes=[photos[0], *[b"no"] * 40]))
    assert re.findall(r"image_bytes\[(\d+)\]", details) == [str(row) for row in range(1, MAX_NAMED_ROWS + 1)]
    assert details.endswith("(not checked from row 9 on)")


def test_rows_of_two_inputs_are_named_as_instances(pair_endpoint):
    if not pair_endpoint.is_local:
        pytest.skip("the real server does not name rows")
    inputs = {"values": np.zeros((4, 2), np.float32), "ids": np.array([1, 2, -3, 4], np.int64)}
    code, details = refusal(pair_endpoint.predictions.Predict, request_of("pair", **inputs))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert re.match(r"instances\[2\]: .*an id is negative", details)


def test_a_model_that_names_rows_is_left_to_speak(pair_endpoint):
    x = np.array([1, -1, 2], np.float32)
    code, details = refusal(pair_endpoint.predictions.Predict, request_of("pair", "named", x=x))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert details == "x[7]: is not positive"


def test_rows_are_counted_in_the_batch_though_the_model_counts_in_a_part(pair_endpoint):
    if not pair_endpoint.is_local:
        pytest.skip("the real server does not name rows")
    x = np.array([4, 100, -4, 9], np.float32)
    code, details = refusal(pair_endpoint.predictions.Predict, request_of("pair", "half_named", x=x))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert details == "x[1]: too large; x[2]: is not positive"


@pytest.mark.parametrize("value", [b"scalar", [[b"a", b"b"]]])
def test_a_shape_that_the_signature_does_not_allow(local, value):
    code, details = refusal(local.predictions.Predict, request_of(image_bytes=value))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert details.endswith("the signature wants [-1]")


def test_other_apis_are_unimplemented(local):
    calls = [
        (local.predictions.Classify, classification_pb2.ClassificationRequest()),
        (local.models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest()),
    ]
    for call, request in calls:
        code, details = refusal(call, request)
        assert code == grpc.StatusCode.UNIMPLEMENTED
        assert "local server" in details


def test_a_message_above_grpcs_own_limit_passes(local, photos):
    padded = photos[0] + bytes(5 * 2**20)  # PNG readers stop at the end mark
    response = local.predictions.Predict(request_of(image_bytes=[padded]))
    assert tf.make_ndarray(response.outputs["descriptors"]).shape == (1, 4)


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
@pytest.mark.parametrize("bad", [{0}, {1, 5}, {63}, set()])
def test_the_search_finds_exactly_the_bad_rows(rows, bad):
    calls = []

    def told(start, stop):
        calls.append((start, stop))
        return "bad" if bad & set(range(start, stop)) else None

    reasons, unchecked = find_bad_rows(told, rows)
    assert set(reasons) == {row for row in bad if row < rows}
    assert unchecked == rows
    assert len(calls) <= 1 + 2 * len(bad) * 7


def test_the_search_stops_when_the_time_is_over():
    def told(start, stop):
        if start >= 4:
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "over")
        return "bad" if start <= 2 < stop or stop == 8 else None

    assert find_bad_rows(told, 8) == ({2: "bad"}, 4)


@pytest.mark.parametrize(
    "message",
    [
        "Invalid PNG.\n\t [[{{node map/while/DecodeImage}}]]",
        "Graph execution error:\n\nDetected at node 'a' defined at (most recent call last):\n"
        "  File \"a.py\", line 3, in <module>\nNode: 'a'\nInvalid PNG.\n\t [[{{node a}}]] [Op:x]",
        "2 root error(s) found.\n  (0) INVALID_ARGUMENT: Invalid PNG.\n\t [[{{node a}}]]\n  (1) INVALID_ARGUMENT: x",
    ],
)
def test_graph_nodes_and_traces_are_cut_from_messages(message):
    assert useful_line(message) == "Invalid PNG."


def test_a_models_own_assertion_is_taken_out_of_its_frame():
    assert useful_line("assertion failed: [image_bytes[1]: no]\n\t [[{{node a}}]]") == "image_bytes[1]: no"
    assert useful_line("assertion failed: [a] [1]") == "assertion failed: [a] [1]"


def test_long_messages_are_cut():
    assert len(StatusError(grpc.StatusCode.INTERNAL, "x" * 5000).message) < MAX_MESSAGE + 20


# Versions.


def test_only_complete_numbered_folders_are_versions(own_base):
    (own_base / "12").mkdir()
    shutil.copytree(own_base / "1", own_base / "3.tmp")
    shutil.copytree(own_base / "1", own_base / "10")
    assert sorted(complete_versions(own_base)) == [1, 10]


def test_a_new_version_replaces_the_old_one_while_requests_run(own_base, second_version, photos, make_endpoint):
    with LocalServer("descriptor", own_base, file_system_poll_wait_seconds=0.05) as server:
        endpoint = make_endpoint(server)
        answers, stop = [], threading.Event()

        def ask():
            while not stop.is_set():
                response = endpoint.predictions.Predict(request_of(image_bytes=photos[:1]))
                vector = tf.make_ndarray(response.outputs["descriptors"]).round(4).tobytes()
                answers.append((response.model_spec.version.value, vector))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            (own_base / "2").mkdir()  # half-copied: not served
            shutil.copytree(second_version / "variables", own_base / "2" / "variables")
            time.sleep(0.3)
            assert server.version == 1
            shutil.copy(second_version / "saved_model.pb", own_base / "2")
            wait_until(lambda: server.version == 2)
            time.sleep(0.2)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert {version for version, _ in answers} == {1, 2}
        assert len(set(answers)) == 2, "each version has one answer"

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "descriptor"
        states = {
            s.version: s.State.Name(s.state) for s in endpoint.models.GetModelStatus(request).model_version_status
        }
        assert states == {1: "END", 2: "AVAILABLE"}
        code, details = refusal(endpoint.predictions.Predict, request_of(version=1, image_bytes=photos[:1]))
        assert (code, details) == (
            grpc.StatusCode.NOT_FOUND,
            "Servable not found for request: Specific(descriptor, 1)",
        )


def test_a_version_that_does_not_load_leaves_the_old_one_until_its_files_change(
    own_base, second_version, photos, make_endpoint, caplog
):
    with LocalServer("descriptor", own_base, file_system_poll_wait_seconds=0.05) as server:
        endpoint = make_endpoint(server)
        (own_base / "2").mkdir()
        shutil.copy(second_version / "saved_model.pb", own_base / "2")  # without its variables
        wait_until(lambda: 2 in server._models.statuses() and server._models.statuses()[2].state == 50)
        endpoint.predictions.Predict(request_of(version=1, image_bytes=photos[:1]))
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name, request.model_spec.version.value = "descriptor", 2
        (status,) = endpoint.models.GetModelStatus(request).model_version_status
        assert status.status.error_message
        shutil.copytree(second_version / "variables", own_base / "2" / "variables")
        wait_until(lambda: server.version == 2)


def test_at_the_start_a_lower_version_stands_in_for_a_broken_one(own_base):
    (own_base / "5").mkdir()
    (own_base / "5" / "saved_model.pb").write_bytes(b"broken")
    with LocalServer("descriptor", own_base) as server:
        assert server.version == 1


# Starting and stopping.


def test_base_paths_without_a_model(tmp_path):
    with pytest.raises(InputError, match=r"--model_base_path=.*nowhere: no such file"):
        LocalServer("m", tmp_path / "nowhere").start()
    with pytest.raises(InputError, match="holds no version"):
        LocalServer("m", tmp_path).start()
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"broken")
    with pytest.raises(InputError, match="version 1 does not load"):
        LocalServer("m", tmp_path).start()


def test_ports_in_use_are_named_by_flag(endpoint, photo_base):
    grpc_port, rest_port = (int(a.rsplit(":", 1)[1]) for a in (endpoint.grpc_address, endpoint.rest_url))
    with pytest.raises(InputError, match=rf"--port={grpc_port}: .*address already in use"):
        LocalServer("m", photo_base, grpc_port).start()
    with pytest.raises(InputError, match=rf"--rest_api_port={rest_port}: .*address already in use"):
        LocalServer("m", photo_base, 0, rest_port).start()
    with pytest.raises(InputError, match="a port each"):
        LocalServer("m", photo_base, 8500, 8500)


def test_closing_frees_the_ports(photo_base):
    with LocalServer("m", photo_base) as server:
        ports = [int(a.rsplit(":", 1)[1]) for a in (server.grpc_address, server.rest_url)]
    with LocalServer("m", photo_base, *ports) as again:
        assert again.grpc_address == server.grpc_address


def test_closing_waits_for_requests_under_way(pair_base, make_endpoint):
    server = LocalServer("pair", pair_base)
    server.start()
    endpoint = make_endpoint(server)
    request = request_of("pair", "slow", steps=np.int32(50_000))
    endpoint.predictions.Predict(request_of("pair", "slow", steps=np.int32(1)))
    under_way = endpoint.predictions.Predict.future(request)
    wait_until(lambda: server._models._leases[1])
    server.close()
    assert tf.make_ndarray(under_way.result().outputs["y"]) == 50_000
    assert refusal(endpoint.predictions.Predict, request)[0] == grpc.StatusCode.UNAVAILABLE


def test_an_ipv6_address(photo_base, make_endpoint, photos):
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with LocalServer("descriptor", photo_base, bind_address="::1") as server:
        assert server.grpc_address.startswith("[::1]:")
        assert server.rest_url.startswith("http://[::1]:")
        make_endpoint(server).predictions.Predict(request_of(image_bytes=photos))


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process at once on Windows")
def test_the_script_serves_until_it_is_terminated(endpoint, photo_base):
    command = [sys.executable, "-m", "export.serve", f"--model_base_path={photo_base}"]
    taken = endpoint.grpc_address.rsplit(":", 1)[1]
    # The script itself keeps TensorFlow quiet, unless this level is set.
    env = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    piped = {"env": env, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    refused = subprocess.Popen([*command, f"--port={taken}", "--rest_api_port=0"], **piped)
    with subprocess.Popen([*command, "--port=0", "--rest_api_port=0"], **piped) as process:
        ready = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert re.fullmatch(r"serving descriptor version 1: gRPC 127\.0\.0\.1:\d+, REST http://127\.0\.0\.1:\d+\n", ready)
    errors = refused.communicate(timeout=30)[1]
    assert refused.returncode == 2
    assert errors.count("\n") == 1
    assert f"--port={taken}" in errors
