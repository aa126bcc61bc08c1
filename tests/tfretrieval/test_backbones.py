import inspect
import types
import urllib.error
from pathlib import Path

import keras
import numpy as np
import pytest

from tfretrieval import backbones
from tfretrieval.backbones import BACKBONES, build_backbone
from tfretrieval.errors import InputError
from tfretrieval.layers.input_scaling import scale_pixels
from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor

WEIGHTS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "weights"
OF_KERAS = [name for name in BACKBONES if name != "small_resnet"]


class Recorder:
    """Stands for `keras.applications`: notes which function is called with what, and builds nothing."""

    def __getattr__(self, name):
        def note(**kwargs):
            self.name, self.kwargs = name, kwargs

        return note


def application(name, monkeypatch):
    """The name of the Keras application behind a backbone, and the arguments it is called with."""
    recorder = Recorder()
    with monkeypatch.context() as patch:
        patch.setattr(keras, "applications", recorder)
        BACKBONES[name].make(None)
    return recorder.name, recorder.kwargs


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


@pytest.fixture(scope="module")
def narrow():
    return build_backbone("mobilenet_v2_0.35")


@pytest.fixture(scope="module")
def small():
    return build_backbone("small_resnet")


@pytest.mark.parametrize("name", OF_KERAS)
def test_every_backbone_is_a_keras_application_and_its_arguments_fit(name, monkeypatch):
    maker, kwargs = application(name, monkeypatch)
    inspect.signature(getattr(keras.applications, maker)).bind(**kwargs)
    assert kwargs["include_top"] is False and kwargs["input_shape"] == (None, None, 3)
    assert maker.lower().replace("_", "").startswith(name.split("_")[0].rstrip("0123456789"))


@pytest.mark.parametrize("name", OF_KERAS)
def test_scaling_is_that_of_the_applications_preprocess_input(name, monkeypatch):
    maker, _ = application(name, monkeypatch)
    modules = [value for value in vars(keras.applications).values() if isinstance(value, types.ModuleType)]
    modules = [module for module in modules if hasattr(module, maker)]
    assert modules
    pixels = np.random.default_rng(1).integers(0, 256, (1, 4, 5, 3)).astype(np.float32)
    for module in modules:
        expected = module.preprocess_input(pixels.copy())
        np.testing.assert_allclose(
            scale_pixels(pixels, BACKBONES[name].scaling), expected, rtol=1e-6, atol=1e-5, err_msg=module.__name__
        )


@pytest.mark.parametrize(("name", "stride", "channels"), [("small", 16, 256), ("narrow", 32, 1280)])
def test_maps_have_the_networks_stride_and_channels(request, name, stride, channels):
    model = request.getfixturevalue(name)
    assert model(np.zeros((1, 64, 96, 3), np.float32)).shape == (1, 64 // stride, 96 // stride, channels)


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_vgg_ends_before_its_last_max_pooling(name):
    model = build_backbone(name)
    pools = [layer for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    assert len(pools) == 4
    assert isinstance(model.layers[-1], keras.layers.Conv2D) and model.layers[-1].activation.__name__ == "relu"
    assert model(np.zeros((1, 64, 96, 3), np.float32)).shape == (1, 4, 6, 512)


def test_batch_norms_of_a_random_backbone_follow_quickly(narrow, small):
    for model in (narrow, small):
        layers = backbones.batch_norms(model)
        assert layers and all(layer.momentum == 0.9 for layer in layers)


def test_nested_batch_norms_are_found():
    model = build_descriptor(DescriptorConfig(backbone="small_resnet"))
    convolutions = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Conv2D)]
    assert len(backbones.batch_norms(model)) == len(convolutions) > 0


def test_weights_file_is_loaded_and_momentum_is_left_as_published(narrow, tmp_path):
    rng = np.random.default_rng(0)
    narrow.set_weights([rng.uniform(0.1, 1, weight.shape) for weight in narrow.get_weights()])
    path = tmp_path / "own.weights.h5"
    narrow.save_weights(path)
    model = build_backbone("mobilenet_v2_0.35", str(path))
    for found, expected in zip(model.get_weights(), narrow.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert {layer.momentum for layer in backbones.batch_norms(model)} == {0.999}


def test_unknown_backbone_is_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"--backbone=resnet9 is unknown; one of .*mobilenet_v2_1\.0.* is wanted") as e:
        build_backbone("resnet9")
    one_sentence(e)


def test_missing_weights_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"--weights=.*absent\.weights\.h5 is not a file") as error:
        build_backbone("mobilenet_v2_0.35", str(tmp_path / "absent.weights.h5"))
    one_sentence(error)


def test_weights_of_another_shape_are_refused_in_one_sentence(narrow, tmp_path):
    path = tmp_path / "narrow.weights.h5"
    narrow.save_weights(path)
    with pytest.raises(InputError, match=r"--weights=.*narrow.* does not fit --backbone=mobilenet_v2_0\.5") as error:
        build_backbone("mobilenet_v2_0.5", str(path))
    one_sentence(error)


@pytest.mark.parametrize("name", ["broken.weights.h5", "photo.jpg"])
def test_a_file_that_holds_no_weights_is_refused_in_one_sentence(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"not weights" * 100)
    with pytest.raises(InputError, match=rf"--weights=.*{name} does not fit") as error:
        build_backbone("small_resnet", str(path))
    one_sentence(error)


def test_own_network_without_published_weights_says_so():
    with pytest.raises(InputError, match=r"--backbone=small_resnet --weights=imagenet .* no published weights"):
        build_backbone("small_resnet", "imagenet")


def test_failed_download_of_imagenet_weights_is_refused_in_one_sentence(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(InputError, match=r"--backbone=mobilenet_v2_0\.35 --weights=imagenet could not be made") as e:
        build_backbone("mobilenet_v2_0.35", "imagenet")
    one_sentence(e)


@pytest.mark.parametrize("alpha", ["0.35", pytest.param("1.0", marks=pytest.mark.slow)])
def test_published_weights_give_kerass_own_network_and_gem_by_hand(alpha):
    path = WEIGHTS / f"mobilenetv2_{alpha}_224_imagenet_notop.weights.h5"
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    plain = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(None, None, 3), alpha=float(alpha)
    )
    plain.load_weights(path)
    photo = keras.ops.image.resize(np.random.default_rng(3).uniform(0, 255, (1, 9, 12, 3)), (96, 128))
    photo = np.round(np.asarray(photo)).astype(np.uint8)
    scaled = keras.applications.mobilenet_v2.preprocess_input(photo.astype(np.float32))
    maps = np.maximum(np.asarray(plain(scaled, training=False), np.float64), 1e-6)
    pooled = np.mean(maps**3, axis=(1, 2)) ** (1 / 3)
    expected = pooled / np.linalg.norm(pooled)
    model = build_descriptor(DescriptorConfig(f"mobilenet_v2_{alpha}", str(path)))
    assert (pooled > 1e-3).sum() > 100  # the weights are real: many channels answer to a photo
    np.testing.assert_allclose(model(photo, training=False), expected, atol=1e-5)
