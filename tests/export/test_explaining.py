import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from export.example_photos import example_photos
from export.explaining import explain
from export.package import CARD, describe_signatures
from export.saving import ExportSource, write_version
from export.served_session import ServedSession
from export.server import LocalServer
from tfretrieval import files
from tfretrieval.layers import GeM, InputScaling

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(6, 3, 2, padding="same", activation="relu")(InputScaling("tf")(pixels))
    model = keras.Model(pixels, keras.layers.UnitNormalization(dtype="float32")(GeM()(maps)))
    return write_version(ExportSource(model, 32, "ab" * 32, {}), tmp_path_factory.mktemp("model") / "own", {})


@pytest.fixture(scope="module")
def signatures(version):
    with ServedSession(version) as session:
        return describe_signatures(session.signatures)


@pytest.fixture(scope="module")
def text(version, signatures):
    return explain(version, files.read_json(version / CARD, "a card"), signatures, "own", "127.0.0.1")


def test_every_tensor_is_told_with_type_shape_and_meaning(text, signatures):
    for name, signature in signatures.items():
        told = text.split(f"signature {name}\n")[1].split("gRPC:")[0]
        for side in ("inputs", "outputs"):
            for tensor, facts in signature[side].items():
                (line,) = (line for line in told.splitlines() if line.split()[:2] == [side[:-1], tensor])
                assert facts["dtype"] in line and line.endswith(line.strip()) and len(line.split()) > 5
    assert re.search(r"output +descriptors +float32 +\[\?, 6\]", text)


def test_the_head_tells_the_card(text):
    head = text.split("signature")[0]
    for told in ("dimension: 6", "image_size: 32", "precision: float32", "ab" * 32, "at least 1.0, on 8 photos"):
        assert told in head


def test_defaults_and_tensors_without_a_meaning_are_told():
    inputs = {"image_bytes": {"dtype": "string", "shape": [None]}, "k": {"dtype": "int32", "shape": [], "default": 10}}
    own = {"own": {"dtype": "float32", "shape": None}}
    text = explain(Path("models/1"), {}, {"search": {"inputs": inputs, "outputs": own}}, "m", "host")
    assert "photos wanted; 10 when left out" in text
    assert re.search(r"output +own +float32 +any shape$", text, re.MULTILINE)
    assert '"k": 10' in text and "http://host:8501/v1/models/m:predict" in text
    assert 'request.inputs["k"]' not in text  # a request may leave it out
    unknown = explain(Path("models/1"), {}, {"other": {"inputs": own, "outputs": own}}, "m", "host")
    assert "gRPC" not in unknown


def test_the_example_requests_work_as_they_are(text, version, tmp_path):
    """Against a server on this machine, from a folder with a photo."""
    (tmp_path / "photo.jpg").write_bytes(example_photos(300)[0])
    with LocalServer("own", version.parent, port=0, rest_api_port=0) as server:
        for name in ("serving_default", "query", "card"):
            told = text.split(f"signature {name}\n")[1].split("\nsignature")[0]
            program, _, rest = told.split("  gRPC:\n")[1].partition("  REST:\n")
            code = "\n".join(line[4:] for line in program.splitlines())
            code = code.replace("127.0.0.1:8500", server.grpc_address)
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
            )
            assert done.returncode == 0, done.stderr
            assert "model_sha256" in done.stdout if name == "card" else done.stdout.count(".") == 6
            assert bool(rest) == (name != "card")  # REST cannot ask a signature without inputs
            if not rest:
                continue
            command = " ".join(line.strip() for line in rest.strip().splitlines())
            command = command.replace("http://127.0.0.1:8501", server.rest_url)
            answer = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
            assert "outputs" in json.loads(answer.stdout), (name, answer.stdout)


def test_the_command_prints_it_and_refuses_a_folder_without_a_model(version, tmp_path):
    def inspect(folder):
        command = [sys.executable, "-m", "export.inspect", str(folder), "--model_name=own"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    done = inspect(version.parent)
    assert done.returncode == 0 and "signature serving_default" in done.stdout and shlex.quote("own") in done.stdout
    wrong = inspect(tmp_path)
    assert wrong.returncode == 2 and "holds no SavedModel" in wrong.stderr and "Traceback" not in wrong.stderr
