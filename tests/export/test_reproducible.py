"""The same checkpoint exports to the same bytes, in any process."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2

from export.reproducible import make_reproducible
from tfretrieval.descriptors import Descriptors
from tfretrieval.layers import GeM, InputScaling

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(32, 3, 2, use_bias=False)(InputScaling("torch")(pixels))
    maps = keras.layers.ReLU()(keras.layers.BatchNormalization()(maps))
    maps = keras.layers.Conv2D(64, 3, 2, padding="same", activation="relu")(maps)
    path = tmp_path_factory.mktemp("checkpoint") / "model.keras"
    keras.Model(pixels, keras.layers.UnitNormalization(dtype="float32")(GeM()(maps))).save(path)
    return path


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    vectors = np.random.default_rng(0).normal(size=(300, 64)).astype(np.float32)
    folder = tmp_path_factory.mktemp("index") / "vectors"
    Descriptors(vectors, tuple(f"photo {row}" for row in range(300)), {}).save(folder)
    return folder


def export(checkpoint, output, *flags, before=""):
    """Exports in a process of its own, after some other work that moves the process's numbers on."""
    program = f"{before}\nfrom export.saved_model import run\nrun()"
    command = [sys.executable, "-c", program, f"--checkpoint={checkpoint}", "--image_size=32", f"--output={output}"]
    subprocess.run([*command, *flags], cwd=ROOT, check=True, capture_output=True)
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}


OTHER_WORK = (
    "import keras, tensorflow as tf\n"
    "keras.layers.Conv2D(3, 3)(keras.Input((8, 8, 3)))\n"
    "print(tf.function(lambda x: tf.while_loop(lambda i: i < x, lambda i: i + 1, [0]))(tf.constant(3)))"
)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_two_processes_write_the_same_bytes(checkpoint, index, tmp_path, precision):
    flags = [f"--precision={precision}", f"--index={index}", "--index_kind=pq", "--min_cosine=0.9"]
    first = export(checkpoint, tmp_path / "first", *flags)
    second = export(checkpoint, tmp_path / "second", *flags, before=OTHER_WORK)
    assert first.keys() == second.keys() and len(first) == 8
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.slow
def test_two_keras_files_are_the_same(checkpoint, tmp_path):
    first = export(checkpoint, tmp_path / "first", "--format=keras")
    second = export(checkpoint, tmp_path / "second", "--format=keras", before=OTHER_WORK)
    assert first == second and len(first) == 3
    with zipfile.ZipFile(tmp_path / "first" / "descriptor.keras") as archive:
        assert json.loads(archive.read("metadata.json"))["keras_version"] == keras.__version__


class Loops(tf.Module):
    """Variables that a loop and a branch read: what TensorFlow numbers most of."""

    def __init__(self, value=2.0):
        super().__init__()
        self.factor, self.offset = tf.Variable(value), tf.Variable(1.0)

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def __call__(self, x):
        def body(step, y):
            return step + 1, tf.cond(y > 4, lambda: y - self.offset, lambda: y * self.factor)

        return {"y": tf.while_loop(lambda step, _: step < 5, body, (0, x))[1]}


def save(folder, value=2.0):
    module = Loops(value)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.__call__})
    make_reproducible(folder)
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_saves_of_one_process_are_the_same_and_of_other_values_are_not(tmp_path):
    first, second, other = save(tmp_path / "a"), save(tmp_path / "b"), save(tmp_path / "c", 3.0)
    assert first == second
    assert first["saved_model.pb"] == other["saved_model.pb"]
    assert first["fingerprint.pb"] != other["fingerprint.pb"]  # the fingerprint is of the values too


def test_a_rewritten_saved_model_computes_the_same(tmp_path):
    save(tmp_path / "a")
    wanted = Loops()(tf.constant(1.0))["y"].numpy()
    y = 1.0
    for _ in range(5):
        y = y - 1.0 if y > 4 else y * 2.0
    assert wanted == y
    loaded = tf.saved_model.load(str(tmp_path / "a"))
    assert loaded.signatures["serving_default"](x=tf.constant(1.0))["y"].numpy() == wanted
    assert loaded(tf.constant(1.0))["y"].numpy() == wanted
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "a"))
        signature = graph.signature_def["serving_default"]
        assert session.run(signature.outputs["y"].name, {signature.inputs["x"].name: 1.0}) == wanted


def test_the_fingerprint_is_of_the_rewritten_file(tmp_path):
    """TensorFlow reads it when it loads; its checksum is of the program as it is now."""
    save(tmp_path / "a")
    fingerprint = tf.saved_model.experimental.read_fingerprint(str(tmp_path / "a"))
    stored = fingerprint_pb2.FingerprintDef.FromString((tmp_path / "a" / "fingerprint.pb").read_bytes())
    assert fingerprint.saved_model_checksum == stored.saved_model_checksum != 0
    assert stored.uuid.isdecimal() and int(stored.uuid) < 1 << 128


def test_no_number_of_the_process_is_left(tmp_path):
    save(tmp_path / "a")
    (graph,) = saved_model_pb2.SavedModel.FromString((tmp_path / "a" / "saved_model.pb").read_bytes()).meta_graphs
    numbers = [int(function.signature.name.rsplit("_", 1)[1]) for function in graph.graph_def.library.function]
    assert numbers == list(range(len(numbers))) and len(numbers) >= 6
