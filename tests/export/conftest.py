"""Tiny SavedModels, the local server on them, and the real server where it is installed."""

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from export import saving
from export.object_signature import ObjectSettings
from export.server import LocalServer
from export.server.config_protos import SSLConfig

DIMENSIONS = 4


class PhotoModel(tf.Module):
    """`image_bytes` string [N] -> `descriptors` float32 [N, 4], L2-normalised; decodes row by row."""

    def __init__(self, seed=1):
        self.weights = tf.Variable(tf.random.stateless_normal([12, DIMENSIONS], [seed, 2]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def describe(self, image_bytes):
        def pixels(photo):
            image = tf.io.decode_image(photo, channels=3, expand_animations=False)
            return tf.reshape(tf.image.resize(tf.cast(image, tf.float32), [2, 2]), [12])

        rows = tf.map_fn(pixels, image_bytes, fn_output_signature=tf.TensorSpec([12], tf.float32))
        return {"descriptors": tf.math.l2_normalize(tf.matmul(rows, self.weights), axis=-1)}


class PairModel(tf.Module):
    """Two inputs, three outputs, one of them bytes; `named` refuses rows by name; `slow` takes its time."""

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32), tf.TensorSpec([None], tf.int64)])
    def pair(self, values, ids):
        tf.debugging.assert_non_negative(ids, message="an id is negative")
        return {
            "total": tf.reduce_sum(values, axis=1),
            "next": ids + 1,
            "word_bytes": tf.strings.as_string(ids),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def named(self, x):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(x > 0), ["x[7]: is not positive"])]):
            return {"y": tf.sqrt(x), "words": tf.strings.as_string(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def half_named(self, x):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(x < 100), ["too large"])]):
            x = tf.identity(x)
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(x > 0), ["x[0]: is not positive"])]):
            return {"y": tf.sqrt(x)}

    @tf.function(input_signature=[])
    def card(self):
        return {"card": tf.constant('{"dimension": 4}')}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def slow(self, steps):
        return {
            "y": tf.while_loop(lambda i, x: i < steps, lambda i, x: (i + 1, tf.cos(x)), [0, tf.ones([100, 100])])[0]
        }


def save_photo_model(folder, seed=1):
    model = PhotoModel(seed)
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.describe})
    return folder


@pytest.fixture(scope="session")
def photo_base(tmp_path_factory):
    base = tmp_path_factory.mktemp("descriptor")
    save_photo_model(base / "1")
    return base


@pytest.fixture(scope="session")
def second_version(tmp_path_factory):
    """A SavedModel whose descriptors differ from the first version's."""
    return save_photo_model(tmp_path_factory.mktemp("second") / "saved", seed=9)


@pytest.fixture(scope="session")
def pair_base(tmp_path_factory):
    base = tmp_path_factory.mktemp("pair")
    model = PairModel()
    signatures = {
        "serving_default": model.pair,
        "named": model.named,
        "half_named": model.half_named,
        "card": model.card,
        "slow": model.slow,
    }
    tf.saved_model.save(model, str(base / "1"), signatures=signatures)
    return base


@pytest.fixture
def own_base(photo_base, tmp_path):
    """A base path with version 1 that a test may change."""
    shutil.copytree(photo_base, tmp_path / "own")
    return tmp_path / "own"


@pytest.fixture(scope="session")
def photos():
    """Five encoded photos of different sizes and formats."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (8 + 3 * i, 20 - 2 * i, 3), np.uint8) for i in range(5)]
    encoders = [tf.io.encode_png, tf.io.encode_jpeg]
    return [encoders[i % 2](image).numpy() for i, image in enumerate(images)]


@pytest.fixture(scope="session")
def expected(photo_base, photos):
    """Descriptors of the photos by the SavedModel itself, float32 [5, 4]."""
    signature = tf.saved_model.load(str(photo_base / "1")).signatures["serving_default"]
    return signature(image_bytes=tf.constant(photos))["descriptors"].numpy()


@dataclasses.dataclass
class Endpoint:
    """Addresses of a server, whichever it is, and stubs for it."""

    grpc_address: str
    rest_url: str
    is_local: bool = True

    def __post_init__(self):
        self.channel = grpc.insecure_channel(self.grpc_address)
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


RUNNING_MODELS = {}


def _running_server(name, base):
    """The server at TF_SERVING=host:port (REST: TF_SERVING_REST), told to serve a model from this machine's disk."""
    address = os.environ["TF_SERVING"]
    host, port = address.rsplit(":", 1)
    if RUNNING_MODELS.setdefault(name, base) != base:
        pytest.skip(f"the server at TF_SERVING serves another model named {name} to these tests already")
    endpoint = Endpoint(address, f"http://{os.environ.get('TF_SERVING_REST', f'{host}:{int(port) + 1}')}", False)
    request = model_management_pb2.ReloadConfigRequest()
    for each, folder in RUNNING_MODELS.items():
        request.config.model_config_list.config.add(name=each, base_path=str(folder), model_platform="tensorflow")
    endpoint.models.HandleReloadConfigRequest(request, timeout=60)
    return endpoint


@contextlib.contextmanager
def _real_server(name, base):
    if "TF_SERVING" in os.environ:
        yield _running_server(name, base)
        return
    program = shutil.which("tensorflow_model_server")
    if program is None:
        pytest.skip("tensorflow_model_server is not on PATH, and TF_SERVING=host:port is not set")
    ports = [_free_port(), _free_port()]
    command = [program, f"--model_name={name}", f"--model_base_path={base}"]
    command += [f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for port in ports:
                _wait_for_port(port)
            yield Endpoint(f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", is_local=False)
        finally:
            process.terminate()


def _wait_for_port(port, seconds=30):
    end = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@contextlib.contextmanager
def _endpoint(kind, name, base):
    if kind == "tensorflow_model_server":
        with _real_server(name, base) as endpoint:
            yield endpoint
        return
    with LocalServer(name, base, file_system_poll_wait_seconds=0) as server:
        yield Endpoint(server.grpc_address, server.rest_url)


SERVERS = ["local", "tensorflow_model_server"]


@pytest.fixture(scope="session", params=SERVERS)
def endpoint(request, photo_base):
    """A server of the photo model, named `descriptor`."""
    with _endpoint(request.param, "descriptor", photo_base) as found:
        yield found


@pytest.fixture(scope="session", params=SERVERS)
def pair_endpoint(request, pair_base):
    """A server of the model with two inputs, named `pair`."""
    with _endpoint(request.param, "pair", pair_base) as found:
        yield found


OBJECT_SETTINGS = ObjectSettings(objects_most=4, objects_least_score=0.55, objects_overlap=0.4)


@pytest.fixture(scope="session")
def object_base(guided_run, tmp_path_factory):
    """A model's folder with one version that has the signature `objects`."""
    base = tmp_path_factory.mktemp("object_models") / "descriptor"
    saving.write_version(saving.load_source(guided_run.path), base, {"which": "best"}, OBJECT_SETTINGS)
    return base


@pytest.fixture(scope="session", params=SERVERS)
def object_endpoint(request, object_base):
    """A server of the model with objects, named `descriptor`."""
    with _endpoint(request.param, "descriptor", object_base) as found:
        yield found


@pytest.fixture(scope="session")
def object_photos():
    """Encoded photos of many sizes, and their heights and widths: two of one size, one a pixel, two larger than 48."""
    sizes = [(48, 36), (20, 30), (150, 260), (1, 1), (48, 36), (400, 300)]
    random = np.random.default_rng(3)
    photos = []
    for place, (height, width) in enumerate(sizes):
        coarse = tf.constant(random.integers(0, 256, (1, 6, 5, 3)), tf.float32)
        pixels = tf.cast(tf.image.resize(coarse, (height, width))[0], tf.uint8)
        photos.append((tf.io.encode_png, tf.io.encode_jpeg)[place % 2](pixels).numpy())
    return photos, np.array(sizes)


def _request_of(model="descriptor", signature="", version=None, label=None, outputs=(), **inputs):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


def _refusal(call, request, timeout=10):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=timeout)
    return caught.value.code().name, caught.value.details()


def _wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def request_of():
    """Makes a PredictRequest of a model, perhaps a signature, a version or a label, and arrays by alias."""
    return _request_of


@pytest.fixture(scope="session")
def refusal():
    """Makes a call that must be refused; gives the name of its status and its message."""
    return _refusal


@pytest.fixture(scope="session")
def wait_until():
    """Waits until a condition holds; fails when it takes too long."""
    return _wait_until


@pytest.fixture
def make_endpoint():
    """Makes an `Endpoint` of a `LocalServer`."""
    return lambda server: Endpoint(server.grpc_address, server.rest_url)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """PEM texts by name: a CA, and a key and certificate by it for 127.0.0.1 and for a client; another key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on PATH")
    folder = tmp_path_factory.mktemp("certificates")

    def run(*words):
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA", "-days", "2")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    for name in ("server", "client"):
        run("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        by_ca = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        run("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *by_ca)
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix in (".key", ".pem")}


@pytest.fixture
def ssl_config(tmp_path):
    """Writes an SSL configuration and gives its path."""

    def write(**fields):
        (tmp_path / "ssl.config").write_text(str(SSLConfig(**fields)))
        return str(tmp_path / "ssl.config")

    return write
