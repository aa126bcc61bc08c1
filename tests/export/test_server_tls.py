import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tensorflow_serving.apis import prediction_service_pb2_grpc

from export.server import LocalServer
from export.server.grpc_service import MAX_STREAMS
from export.server.tls import server_credentials
from tfretrieval.errors import InputError

SERVICES = {
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
}


def predict(server, credentials, request):
    with grpc.secure_channel(server.grpc_address, credentials) as channel:
        return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=10)


def test_grpc_over_tls(photo_base, certificates, ssl_config, photos, request_of):
    path = ssl_config(server_key=certificates["server.key"], server_cert=certificates["server.pem"])
    request = request_of(image_bytes=photos[:1])
    with LocalServer("descriptor", photo_base, ssl_config_file=path) as server:
        trusting = grpc.ssl_channel_credentials(certificates["ca.pem"].encode())
        assert predict(server, trusting, request).model_spec.version.value == 1
        for credentials in (grpc.ssl_channel_credentials(certificates["client.pem"].encode()),):
            with pytest.raises(grpc.RpcError) as caught:
                predict(server, credentials, request)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        with grpc.insecure_channel(server.grpc_address) as channel, pytest.raises(grpc.RpcError) as caught:
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=5)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_clients_show_certificates_where_they_must(photo_base, certificates, ssl_config, photos, request_of):
    own = {"server_key": certificates["server.key"], "server_cert": certificates["server.pem"]}
    path = ssl_config(**own, custom_ca=certificates["ca.pem"], client_verify=True)
    ca, key, certificate = (certificates[name].encode() for name in ("ca.pem", "client.key", "client.pem"))
    with LocalServer("descriptor", photo_base, ssl_config_file=path) as server:
        request = request_of(image_bytes=photos[:1])
        assert predict(server, grpc.ssl_channel_credentials(ca, key, certificate), request).outputs
        with pytest.raises(grpc.RpcError):
            predict(server, grpc.ssl_channel_credentials(ca), request)


def test_bad_ssl_files_are_refused(certificates, ssl_config):
    key, certificate = certificates["server.key"], certificates["server.pem"]
    for fields, told in [
        ({}, "lacks server_key or server_cert"),
        ({"server_key": key}, "lacks server_key or server_cert"),
        ({"server_key": "/etc/key.pem", "server_cert": "/etc/cert.pem"}, "is refused"),
        ({"server_key": certificates["client.key"], "server_cert": certificate}, "KEY_VALUES_MISMATCH"),
        ({"server_key": key, "server_cert": certificate, "custom_ca": "nonsense"}, "is refused"),
        ({"server_key": key, "server_cert": certificate, "client_verify": True}, "client_verify without custom_ca"),
    ]:
        with pytest.raises(InputError, match=r"^--ssl_config_file=") as caught:
            server_credentials(ssl_config(**fields))
        assert told in str(caught.value)
        assert "PRIVATE" not in str(caught.value)
        assert "\n" not in str(caught.value)


# Health and reflection.


def test_health_follows_the_server(photo_base):
    with LocalServer("descriptor", photo_base) as server:
        channel = grpc.insecure_channel(server.grpc_address)
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
            found = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status
            assert found == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="descriptor"), timeout=10)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server._models._models["descriptor"].close(5)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        unknown = stub.Watch(health_pb2.HealthCheckRequest(service="descriptor"), timeout=20)
        assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        unknown.cancel()


def test_closing_ends_watches_and_says_so(photo_base):
    with LocalServer("descriptor", photo_base) as server:
        channel = grpc.insecure_channel(server.grpc_address)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) == SERVICES
        start = time.monotonic()
    assert time.monotonic() - start < 5
    assert [each.status for each in watch] == [health_pb2.HealthCheckResponse.NOT_SERVING]


def test_two_servers_have_a_health_each(photo_base):
    with LocalServer("descriptor", photo_base) as first:
        with LocalServer("descriptor", photo_base):
            pass
        stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(first.grpc_address))
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING


def test_open_streams_keep_nobody_from_predicting(photo_base, make_endpoint, photos, request_of):
    with LocalServer("descriptor", photo_base, grpc_max_threads=1) as server:
        stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(server.grpc_address))
        watches = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=20) for _ in range(20)]
        assert {next(watch).status for watch in watches} == {health_pb2.HealthCheckResponse.SERVING}
        make_endpoint(server).predictions.Predict(request_of(image_bytes=photos[:1]), timeout=10)
        more = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=20) for _ in range(MAX_STREAMS)]
        with pytest.raises(grpc.RpcError) as caught:
            next(more[-1])
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        for watch in watches + more:
            watch.cancel()


def test_reflection_lists_the_services_and_their_messages(endpoint):
    if not endpoint.is_local:
        pytest.skip("the real server has no reflection")
    database = ProtoReflectionDescriptorDatabase(endpoint.channel)
    assert set(database.get_services()) == SERVICES
    file = database.FindFileContainingSymbol("tensorflow.serving.PredictRequest")
    assert "PredictRequest" in [message.name for message in file.message_type]
