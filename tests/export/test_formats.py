import builtins
import importlib.util
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from export import formats, saving
from export.formats import Runner, open_file, write_file
from export.precision_check import PrecisionSettings
from export.saving import ExportSource
from tfretrieval.errors import InputError
from tfretrieval.layers import GeM, InputScaling


def small_network(seed=0):
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(6, 3, 2, padding="same", activation="relu")(InputScaling("tf")(pixels))
    return keras.Model(pixels, keras.layers.UnitNormalization(dtype="float32")(GeM()(maps)))


@pytest.fixture(scope="module")
def model():
    return small_network()


def photos():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, size, np.uint8) for size in ((1, 40, 30, 3), (3, 21, 64, 3), (1, 40, 30, 3))]


def installed(*modules):
    return all(importlib.util.find_spec(module) for module in modules)


KINDS = [
    "keras",
    "litert",
    pytest.param(
        "onnx",
        marks=pytest.mark.skipif(
            not installed("tf2onnx", "onnx", "onnxruntime"), reason="tf2onnx, onnx and onnxruntime are not installed"
        ),
    ),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_written_file_describes_photos_of_any_size_like_the_model(model, kind, tmp_path):
    path = write_file(model, kind, tmp_path)
    assert path.name == formats.FILES[kind] and path.is_file()
    opened = open_file(path, kind, 6)
    assert opened.output_shape == (None, 6)
    for images in photos():
        found = np.asarray(opened(tf.constant(images)))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, model(images, training=False), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_format_is_written_with_card_and_checksums_and_compared(model, kind, tmp_path):
    source = ExportSource(model, 32, "ab" * 32, {"seed": 4})
    path = saving.write_file_of(source, tmp_path / "out", {"format": kind}, kind)
    assert path == tmp_path / "out" / formats.FILES[kind]
    assert sorted(each.name for each in path.parent.iterdir()) == sorted(
        ["checksums.json", "descriptor.json", path.name]
    )
    card = json.loads((path.parent / "descriptor.json").read_text())
    assert card["format"] == kind and card["seed"] == 4 and card["descriptor"]["model_sha256"] == "ab" * 32
    assert card["precision_check"]["photos"] == 8 and card["precision_check"]["min_cosine"] > 0.9999
    # Another export takes its place.
    assert saving.write_file_of(source, tmp_path / "out", {}, "keras").is_file()
    assert not (tmp_path / "out" / "descriptor.tflite").exists()


@pytest.mark.parametrize("module", ["tf2onnx", "onnx"])
def test_a_missing_package_is_named(model, module, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_module", lambda name: None if name == module else object())
    with pytest.raises(
        InputError, match=f"--format=onnx needs the package {module}, which is not installed: pip install"
    ):
        write_file(model, "onnx", tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_runtime_the_card_says_why_nothing_was_compared(model, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "open_file", lambda path, kind, dimension: "onnxruntime is not installed")
    source = ExportSource(model, 32, "", {})
    saving.write_file_of(source, tmp_path / "out", {}, "litert")
    card = json.loads((tmp_path / "out" / "descriptor.json").read_text())
    assert card["precision_check"] == {"not_compared": "onnxruntime is not installed"}


def test_a_missing_runtime_is_a_reason_not_an_error(tmp_path, monkeypatch):
    real = builtins.__import__
    monkeypatch.setattr(formats, "_module", lambda name: None if name == "onnxruntime" else real(name))
    assert open_file(tmp_path / "descriptor.onnx", "onnx", 6) == "onnxruntime is not installed"


def test_a_file_that_describes_otherwise_is_refused_and_leaves_nothing(model, tmp_path, monkeypatch):
    wrong = Runner(lambda images: np.ones((len(images), 6), np.float32) / np.float32(6**0.5), 6)
    monkeypatch.setattr(formats, "open_file", lambda path, kind, dimension: wrong)
    source = ExportSource(model, 32, "", {})
    with pytest.raises(
        InputError, match=r"--format=litert: the cosine to float32 falls to .*, below --min_cosine=0\.99999"
    ):
        saving.write_file_of(source, tmp_path / "out", {}, "litert")
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_converted_is_told_in_a_sentence(model, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no such op\nand a long trace")

    monkeypatch.setattr(keras.Model, "export", fail)
    with pytest.raises(InputError, match=r"--format=litert: the network cannot be converted: no such op$"):
        write_file(model, "litert", tmp_path)


def test_a_folder_of_other_files_is_not_replaced(model, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"holds other files and no descriptor\.json"):
        saving.write_file_of(ExportSource(model, 32, "", {}), tmp_path, {}, "keras")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_other_formats_have_no_other_precision_and_no_objects(model, guided_run, tmp_path):
    with pytest.raises(InputError, match="--precision=int8 is of --format=saved_model; --format=onnx has float32"):
        saving.write_file_of(ExportSource(model, 32, "", {}), tmp_path, {}, "onnx", PrecisionSettings("int8"))
    with pytest.raises(InputError, match="--format=keras is of networks that describe whole photos"):
        saving.write_file_of(saving.load_source(guided_run.path), tmp_path, {}, "keras")
