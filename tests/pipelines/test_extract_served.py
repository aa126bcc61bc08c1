import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from export.client import photos_of_split
from export.server import LocalServer
from export.server.config_protos import SSLConfig
from tfretrieval.descriptors import Descriptors

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


class Means(tf.Module):
    """`image_bytes` string [N] -> `descriptors` float32 [N, 3]: mean colours."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def describe(self, image_bytes):
        def mean(photo):
            image = tf.io.decode_image(photo, channels=3, expand_animations=False)
            return tf.reduce_mean(tf.cast(image, tf.float32), axis=[0, 1])

        return {"descriptors": tf.map_fn(mean, image_bytes, fn_output_signature=tf.TensorSpec([3], tf.float32))}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of `Means` over TLS; gives its address and the certificate's file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on PATH")
    folder, model = tmp_path_factory.mktemp("served"), Means()
    tf.saved_model.save(model, str(folder / "model/1"), signatures={"serving_default": model.describe})
    words = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    files = ("-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=test", "-addext", "subjectAltName=DNS:photos.test")
    subprocess.run(["openssl", *words, *files], cwd=folder, check=True, capture_output=True)
    key, certificate = (folder / "key.pem").read_text(), (folder / "cert.pem").read_text()
    (folder / "ssl.config").write_text(str(SSLConfig(server_key=key, server_cert=certificate)))
    with LocalServer("descriptor", folder / "model", ssl_config_file=str(folder / "ssl.config")) as found:
        yield found.grpc_address, folder / "cert.pem"


def extract(*given):
    quiet = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", "pipelines.extract", *given]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=quiet, timeout=200, check=False)


def test_records_are_described_over_tls(server, record_set, tmp_path):
    address, certificate = server
    given = (f"--server={address}", f"--records={record_set.directory}", "--split=database", "--batch=5")
    tls = (f"--tls_ca={certificate}", "--tls_server_name=photos.test", "--in_flight=3", "--channels=2")
    done = extract(*given, *tls, f"--output={tmp_path}/db")
    assert done.returncode == 0, done.stderr
    found, split = Descriptors.load(tmp_path / "db"), record_set.split("database")
    assert found.ids == split.ids and found.meta["model"] == address
    means = [tf.io.decode_image(photo, channels=3).numpy().mean((0, 1)) for _, photo in photos_of_split(split)]
    np.testing.assert_allclose(found.vectors, means, rtol=1e-4)
    flags = (tmp_path / "db/flags.txt").read_text()
    assert "--tls_server_name=photos.test" in flags and "PRIVATE" not in flags


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--tls",), "does not answer as a descriptor model: UNAVAILABLE"),
        (("--objects", "--tls_ca={ca}", "--tls_server_name=photos.test"), "its model finds no objects"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(server, record_set, tmp_path, given, told):
    address, certificate = server
    words = [word.format(ca=certificate) for word in given]
    where = (f"--server={address}", f"--records={record_set.directory}", "--split=database", f"--output={tmp_path}/db")
    done = extract(*where, "--timeout=3", *words)
    assert done.returncode == 2 and told in done.stderr
    assert "Traceback" not in done.stderr


def test_flags_of_a_server_need_one(record_set, tmp_path):
    where = (f"--model={tmp_path}", f"--records={record_set.directory}", f"--output={tmp_path}/db")
    done = extract(*where, "--tls_ca=ca.pem")
    assert done.returncode == 2 and "--tls_ca=ca.pem is of --server, which is not given." in done.stderr
