import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent import futures
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import get_model_status_pb2, prediction_service_pb2_grpc

from export.server import LocalServer
from export.server.rest import MAX_CONNECTIONS
from export.server.settings import ServerSettings
from tfretrieval.errors import InputError


@pytest.fixture
def held(monkeypatch):
    """Makes runs of a model wait for an event; gives the event, and the number of rows of each run that was begun."""
    from export.server.servable import Servable

    go, runs, run = threading.Event(), [], Servable.run

    def waiting(self, signature, aliases, inputs, timeout=None):
        runs.append(len(inputs["x"]))
        assert go.wait(30)
        return run(self, signature, aliases, inputs, timeout)

    monkeypatch.setattr(Servable, "run", waiting)
    yield go, runs
    go.set()


def named(request_of, rows=1):
    return request_of("pair", "named", x=np.ones(rows, np.float32))


def post(server, body, timeout=20):
    request = urllib.request.Request(server.rest_url + "/v1/models/pair:predict", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


NAMED = {"signature_name": "named", "inputs": [1.0]}


# Overload.


def test_too_many_grpc_requests_are_refused_and_the_others_answered(
    pair_base, held, make_endpoint, request_of, wait_until
):
    go, runs = held
    with LocalServer("pair", pair_base, grpc_max_threads=2, max_waiting_requests=3) as server:
        endpoint = make_endpoint(server)
        waiting = [endpoint.predictions.Predict.future(named(request_of), timeout=30) for _ in range(40)]
        wait_until(lambda: sum(future.done() for future in waiting) == 35)
        assert len(runs) == 2
        refused = [future for future in waiting if future.done()]
        assert {future.code() for future in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "pair"
        assert endpoint.models.GetModelStatus(request, timeout=5), "status is told however many predictions wait"
        health = health_pb2_grpc.HealthStub(endpoint.channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
        go.set()
        answered = [future.result() for future in waiting if future not in refused]
        assert len(answered) == 5
        assert endpoint.predictions.Predict(named(request_of), timeout=5).outputs


def test_too_many_rest_requests_are_refused_and_the_others_answered(pair_base, held, wait_until):
    go, runs = held
    options = {"rest_api_num_threads": 1, "max_waiting_requests": 2}
    with LocalServer("pair", pair_base, **options) as server, futures.ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(post, server, NAMED) for _ in range(12)]
        wait_until(lambda: sum(future.done() for future in waiting) == 9)
        assert len(runs) == 1
        assert {future.result()[0] for future in waiting if future.done()} == {429}
        with urllib.request.urlopen(server.rest_url + "/v1/models/pair", timeout=5) as response:
            assert response.status == 200
        go.set()
        assert sorted(future.result()[0] for future in waiting) == [200] * 3 + [429] * 9


def test_bodies_at_a_time_are_bounded(pair_base, wait_until):
    with LocalServer("pair", pair_base, rest_api_max_body_bytes=1000) as server, contextlib.ExitStack() as stack:
        host, port = urlsplit(server.rest_url).netloc.split(":")
        head = b"POST /v1/models/pair:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        senders = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(4)]
        for sender in senders:
            sender.sendall(head + b"{")  # and never the rest
        wait_until(lambda: post(server, NAMED)[0] == 429)
        for sender in senders:
            sender.close()
        wait_until(lambda: post(server, NAMED)[0] == 200)


def test_connections_are_bounded(pair_base, wait_until):
    with LocalServer("pair", pair_base) as server, contextlib.ExitStack() as stack:
        host, port = urlsplit(server.rest_url).netloc.split(":")
        held = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(MAX_CONNECTIONS)]
        time.sleep(0.3)
        with socket.create_connection((host, int(port)), timeout=10) as refused:
            assert refused.recv(1) == b""
        for connection in held:
            connection.close()
        wait_until(lambda: _answers(server))


def _answers(server):
    try:
        return post(server, NAMED)[0] == 200
    except OSError:
        return False


# Deadlines and clients that leave.


def test_requests_that_nobody_waits_for_are_not_run(pair_base, held, make_endpoint, request_of, wait_until):
    go, runs = held
    with LocalServer("pair", pair_base, grpc_max_threads=1) as server:
        endpoint = make_endpoint(server)
        first = endpoint.predictions.Predict.future(named(request_of, 1), timeout=30)
        wait_until(lambda: runs == [1])
        overdue = endpoint.predictions.Predict.future(named(request_of, 2), timeout=0.2)
        cancelled = endpoint.predictions.Predict.future(named(request_of, 3), timeout=30)
        last = endpoint.predictions.Predict.future(named(request_of, 4), timeout=30)
        assert overdue.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        time.sleep(0.2)
        cancelled.cancel()
        time.sleep(0.2)
        go.set()
        assert first.result().outputs
        assert last.result().outputs
        assert runs == [1, 4]


def test_rest_requests_wait_no_longer_than_their_time(pair_base, held, wait_until):
    go, runs = held
    options = {"rest_api_num_threads": 1, "rest_api_timeout_in_ms": 500}
    with LocalServer("pair", pair_base, **options) as server, futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, server, NAMED)
        wait_until(lambda: runs == [1])
        assert post(server, NAMED)[0] == 504
        gone = http.client.HTTPConnection(urlsplit(server.rest_url).netloc)
        gone.request("POST", "/v1/models/pair:predict", json.dumps(NAMED))
        gone.close()
        go.set()
        first.result()
        wait_until(lambda: post(server, NAMED)[0] == 200)
        assert runs == [1, 1]


def test_a_message_above_the_limit_is_refused(photo_base, make_endpoint, request_of, refusal):
    request = request_of(image_bytes=[bytes(2_000_000)])
    for options in (
        {"rest_api_max_body_bytes": 1_000_000},
        {"grpc_channel_arguments": "grpc.max_receive_message_length=1000000"},
    ):
        with LocalServer("descriptor", photo_base, **options) as server:
            code, details = refusal(make_endpoint(server).predictions.Predict, request)
            assert code == "RESOURCE_EXHAUSTED"
            assert "larger than max" in details.lower()


@pytest.mark.parametrize("length", ["-1", "1e3", "x", "9" * 5000, "\u0663"])
def test_lengths_that_are_none(pair_base, length):
    with LocalServer("pair", pair_base) as server:
        host, port = urlsplit(server.rest_url).netloc.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            head = f"POST /v1/models/pair:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(100).split()[1] in (b"400", b"413")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"port": 70000}, "--port=70000"),
        ({"rest_api_port": -1}, "--rest_api_port=-1"),
        ({"grpc_max_threads": 0}, "--grpc_max_threads=0; 1 or more is wanted"),
        ({"rest_api_timeout_in_ms": 0}, "--rest_api_timeout_in_ms=0"),
        ({"file_system_poll_wait_seconds": float("nan")}, "--file_system_poll_wait_seconds=nan"),
        ({"grpc_channel_arguments": "grpc.x"}, "--grpc_channel_arguments has 'grpc.x'"),
    ],
)
def test_settings_out_of_range_are_refused(options, told):
    with pytest.raises(InputError, match=re.escape(told)):
        ServerSettings(model_base_path="x", **options)


def test_channel_arguments_are_pairs():
    settings = ServerSettings(model_base_path="x", grpc_channel_arguments="a.b=-1,c=d=e")
    assert settings.channel_arguments == [("a.b", -1), ("c", "d=e")]


# Starting and stopping.


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


@pytest.mark.parametrize("batching", [False, True])
def test_closing_waits_for_requests_under_way_and_takes_no_new_ones(
    pair_base, held, make_endpoint, request_of, refusal, wait_until, batching
):
    go, runs = held
    server = LocalServer("pair", pair_base, enable_batching=batching)
    server.start()
    endpoint = make_endpoint(server)
    kept = http.client.HTTPConnection(urlsplit(server.rest_url).netloc)
    kept.request("GET", "/v1/models/pair")
    assert kept.getresponse().read()
    with futures.ThreadPoolExecutor(3) as pool:
        under_way = endpoint.predictions.Predict.future(named(request_of, 2), timeout=30)
        wait_until(lambda: len(runs) == 1)
        over_rest = pool.submit(post, server, NAMED)
        wait_until(lambda: len(runs) == 2)
        closing = pool.submit(server.close)
        time.sleep(0.3)
        assert refusal(endpoint.predictions.Predict, named(request_of))[0] == "UNAVAILABLE"
        with pytest.raises(OSError, match="refused"):
            post(server, NAMED)
        kept.request("POST", "/v1/models/pair:predict", json.dumps(NAMED))
        assert kept.getresponse().status == 503
        assert not closing.done()
        go.set()
        assert tf.make_ndarray(under_way.result().outputs["y"]).tolist() == [1, 1]
        assert over_rest.result()[0] == 200
        closing.result(10)


def test_closing_does_not_wait_for_ever(pair_base, make_endpoint, request_of):
    server = LocalServer("pair", pair_base, shutdown_grace_seconds=0.5)
    server.start()
    slow = make_endpoint(server).predictions.Predict.future(request_of("pair", "slow", steps=np.int32(10**7)))
    time.sleep(0.3)
    start = time.monotonic()
    server.close()
    assert time.monotonic() - start < 5
    assert slow.exception() is not None


def test_an_ipv6_address(photo_base, make_endpoint, photos, request_of):
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with LocalServer("descriptor", photo_base, bind_address="::1") as server:
        assert server.grpc_address.startswith("[::1]:")
        assert server.rest_url.startswith("http://[::1]:")
        make_endpoint(server).predictions.Predict(request_of(image_bytes=photos))


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process at once on Windows")
def test_the_script_drains_when_it_is_terminated(endpoint, pair_base, request_of):
    command = [sys.executable, "-m", "export.serve", "--model_name=pair", f"--model_base_path={pair_base}"]
    taken = endpoint.grpc_address.rsplit(":", 1)[1]
    # The script itself keeps TensorFlow quiet, unless this level is set.
    env = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    piped = {"env": env, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    refused = subprocess.Popen([*command, f"--port={taken}", "--rest_api_port=0"], **piped)
    with subprocess.Popen([*command, "--port=0", "--rest_api_port=0"], **piped) as process:
        ready = process.stdout.readline()
        told = re.fullmatch(r"serving pair version 1: gRPC (127\.0\.0\.1:\d+), REST http://127\.0\.0\.1:\d+\n", ready)
        with grpc.insecure_channel(told[1]) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            stub.Predict(request_of("pair", "slow", steps=np.int32(1)), timeout=20)
            under_way = stub.Predict.future(request_of("pair", "slow", steps=np.int32(30_000)), timeout=30)
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            assert tf.make_ndarray(under_way.result().outputs["y"]) == 30_000
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    errors = refused.communicate(timeout=30)[1]
    assert refused.returncode == 2
    assert errors.count("\n") == 1
    assert f"--port={taken}" in errors


def test_the_scripts_flags_are_the_servers(load_script):
    load_script("export.serve")
    real = {
        "model_config_file", "model_config_file_poll_wait_seconds", "file_system_poll_wait_seconds", "enable_batching",
        "batching_parameters_file", "ssl_config_file", "monitoring_config_file", "enable_model_warmup",
        "num_request_iterations_for_warmup", "allow_version_labels_for_unavailable_models", "grpc_channel_arguments",
        "grpc_max_threads", "rest_api_num_threads", "rest_api_timeout_in_ms", "port", "rest_api_port", "model_name",
        "model_base_path", "tensorflow_session_parallelism",
    }  # fmt: skip
    assert real <= set(flags.FLAGS)
    assert flags.FLAGS["bind_address"].default == "127.0.0.1"
