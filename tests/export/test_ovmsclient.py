"""Contract tests by a client that none of us wrote: OpenVINO's, which brings its own messages and REST calls."""

import numpy as np
import pytest
import tensorflow as tf

from export.server import LocalServer

ovmsclient = pytest.importorskip("ovmsclient", reason="requirements-dev.txt names it")
errors = pytest.importorskip("ovmsclient.tfs_compat.base.errors")


@pytest.fixture(params=["gRPC", "REST"])
def connect(request):
    """Makes a client of an endpoint."""

    def over(endpoint):
        if request.param == "gRPC":
            return ovmsclient.make_grpc_client(endpoint.grpc_address)
        return ovmsclient.make_http_client(endpoint.rest_url.removeprefix("http://"))

    return over


def test_predict(connect, endpoint, photos, expected):
    found = connect(endpoint).predict({"image_bytes": np.array(photos)}, "descriptor", 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_predict_with_several_inputs_and_outputs(connect, pair_endpoint):
    inputs = {"values": np.array([[1, 2], [3, 4]], np.float32), "ids": np.array([5, 6], np.int64)}
    found = connect(pair_endpoint).predict(inputs, "pair", 1)
    assert set(found) == {"total", "next", "word_bytes"}
    np.testing.assert_array_equal(found["total"], [3, 7])
    np.testing.assert_array_equal(found["next"], [6, 7])


def test_what_the_client_makes_of_lists_is_understood(connect, pair_endpoint):
    """It sends lists of numbers as float32 and int32, as content; the signature wants int64 for one of them."""
    client, ids = connect(pair_endpoint), np.array([7], np.int64)
    np.testing.assert_array_equal(client.predict({"values": [[1.5, 2.5]], "ids": ids}, "pair", 1)["total"], [4])
    with pytest.raises(errors.InvalidInputError):
        client.predict({"values": [[1.5, 2.5]], "ids": [7.5]}, "pair", 1)


def test_metadata(connect, endpoint):
    found = connect(endpoint).get_model_metadata("descriptor", 1)
    if "metadata" in found:  # the client reads OpenVINO's spelling of the JSON, and hands TensorFlow Serving's on
        assert found["model_spec"]["name"] == "descriptor" and found["model_spec"]["version"] == "1"
        signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
        shape = signature["outputs"]["descriptors"]["tensor_shape"]["dim"]
        assert [dim["size"] for dim in shape] == ["-1", "4"]
        return
    assert found == {
        "model_version": 1,
        "inputs": {"image_bytes": {"dtype": "DT_STRING", "shape": [-1]}},
        "outputs": {"descriptors": {"dtype": "DT_FLOAT", "shape": [-1, 4]}},
    }


def test_status(connect, endpoint):
    wanted = {1: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
    assert connect(endpoint).get_model_status("descriptor", 1) == wanted


@pytest.mark.parametrize(("name", "version"), [("other", 1), ("descriptor", 7)])
@pytest.mark.parametrize("method", ["predict", "get_model_metadata", "get_model_status"])
def test_models_and_versions_that_are_not_there(connect, endpoint, photos, method, name, version):
    given = ({"image_bytes": np.array(photos[:1])},) if method == "predict" else ()
    with pytest.raises(errors.ModelNotFoundError, match=name):
        getattr(connect(endpoint), method)(*given, name, version)


def test_the_clients_own_default_is_version_0(connect, endpoint, photos):
    with pytest.raises(errors.ModelNotFoundError, match=r"Specific\(descriptor, 0\)"):
        connect(endpoint).predict({"image_bytes": np.array(photos[:1])}, "descriptor")


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"image_bytes": np.array([b"not an image"])}, "Unknown image file format"),
        ({"other": np.array([b"x"])}, "image_bytes"),
    ],
)
def test_wrong_inputs(connect, endpoint, inputs, told):
    with pytest.raises(errors.InvalidInputError, match=told):
        connect(endpoint).predict(inputs, "descriptor", 1)


class Slow(tf.Module):
    """Takes its time."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def count(self, steps):
        return {"y": tf.while_loop(lambda i, x: i < steps, lambda i, x: (i + 1, tf.cos(x)), [0, tf.ones([64, 64])])[0]}


def test_a_deadline(connect, tmp_path, make_endpoint):
    model = Slow()
    tf.saved_model.save(model, str(tmp_path / "1"), signatures={"serving_default": model.count})
    with LocalServer("slow", tmp_path) as server:
        client = connect(make_endpoint(server))
        np.testing.assert_array_equal(client.predict({"steps": np.array(3, np.int32)}, "slow", 1), 3)
        with pytest.raises(TimeoutError):
            client.predict({"steps": np.array(400_000, np.int32)}, "slow", 1, timeout=0.1)


def test_over_tls(photo_base, photos, expected, certificates, ssl_config, tmp_path):
    paths = {"server_cert_path": "ca.pem", "client_cert_path": "client.pem", "client_key_path": "client.key"}
    for name in paths.values():
        (tmp_path / name).write_text(certificates[name])
    path = ssl_config(
        server_key=certificates["server.key"],
        server_cert=certificates["server.pem"],
        custom_ca=certificates["ca.pem"],
        client_verify=True,
    )
    tls = {key: str(tmp_path / name) for key, name in paths.items()}
    with LocalServer("descriptor", photo_base, ssl_config_file=path) as server:
        found = ovmsclient.make_grpc_client(server.grpc_address, tls).predict(
            {"image_bytes": np.array(photos)}, "descriptor", 1
        )
    np.testing.assert_allclose(found, expected, atol=1e-6)
