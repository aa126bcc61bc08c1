import inspect
import math
import re
import sys
import urllib.error
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval import backbones
from tfretrieval.backbones import BACKBONES, build_backbone
from tfretrieval.backbones.table import rows_of
from tfretrieval.errors import InputError
from tfretrieval.layers.input_scaling import MODES, scale_pixels
from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor, load_descriptor

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = ROOT.parent / "shared" / "data" / "weights"
OF_KERAS = [name for name, entry in BACKBONES.items() if entry.source.startswith("keras.applications")]


def slow(*names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


WITH_STAGES = [
    *("small_resnet", "mobilenet_v2_1.0", "resnet50", "resnet50_v2", "resnet18_v1_5", "resnet50_v1_5", "resnet18_vd"),
]
WITH_STAGES += [
    pytest.param(name, marks=pytest.mark.exhaustive)
    for name, entry in BACKBONES.items()
    if entry.stages and name not in WITH_STAGES
]
# The smallest of each family.
FAMILIES = [
    "small_resnet",
    "mobilenet_0.25",
    "resnet18_v1_5",
    *slow(
        "mobilenet_v3_small",
        "mobilenet_v2_0.35",
        "efficientnet_b0",
        "efficientnet_v2_b0",
        "resnet50",
        "resnet50_v2",
        "vgg16",
    ),
    *slow("densenet121", "inception_v3", "inception_resnet_v2", "xception", "nasnet_mobile", "convnext_tiny"),
    *slow("resnet18_vd", "efficientnet_lite0", "vit_base_patch16", "swin_tiny", "dinov2_small", "dinov3_small"),
    *slow("siglip_base_patch16"),
]


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
def test_every_entry_of_keras_fits_the_function_it_names(name, monkeypatch):
    maker, kwargs = application(name, monkeypatch)
    inspect.signature(getattr(keras.applications, maker)).bind(**kwargs)
    assert BACKBONES[name].source == f"keras.applications.{maker}"
    assert kwargs["include_top"] is False and kwargs["weights"] is None
    taken = kwargs["input_tensor"].shape if "input_tensor" in kwargs else (None, *kwargs["input_shape"])
    assert taken[-1] == 3 and (taken[1:3] == (None, None) or name.startswith("nasnet"))
    family = name.replace("_", "").replace("mobilenet0", "mobilenet").replace("mobilenet1", "mobilenet")
    assert maker.lower().startswith(re.match(r"[a-z]+(v\d(?=[bsml]|$))?", family).group(0).rstrip("v"))
    if "include_preprocessing" in inspect.signature(getattr(keras.applications, maker)).parameters:
        assert kwargs.get("include_preprocessing") is True and BACKBONES[name].scaling == "none"


@pytest.mark.parametrize("name", list(BACKBONES))
def test_every_entry_knows_its_scaling_source_and_weights(name):
    entry = BACKBONES[name]
    assert entry.scaling in MODES
    assert entry.presets == entry.source.startswith("keras_hub.models.")
    assert len(entry.stages) in (0, 4) and len(set(entry.stages)) == len(entry.stages)
    if not entry.presets:
        assert entry.published == (None if name == "small_resnet" else "imagenet")


@pytest.mark.parametrize("name", WITH_STAGES)
def test_stages_are_layers_at_which_the_network_can_be_cut(name):
    with keras.StatelessScope(initialize_variables=False):
        model = build_backbone(name)
        outputs = [model.get_layer(stage).output for stage in BACKBONES[name].stages]
        assert outputs[-1] is model.output
        side, start = 224, model.input
        strides = []
        shape = (1, side, side, 3)
        for output in outputs:  # a part that needed more than its one input could not be made
            shape = keras.Model(start, output).compute_output_spec(keras.KerasTensor(shape)).shape
            strides.append(math.ceil(side / shape[1]))
            start = output
    assert strides == ([8, 16, 16, 16] if name == "small_resnet" else [16, 32, 32, 32])


@pytest.mark.parametrize("name", ["densenet121", "densenet201", "resnet50", "resnet50_v2", "resnet18_v1_5", "vgg16"])
def test_convolutional_networks_end_in_relu(name):
    with keras.StatelessScope(initialize_variables=False):
        last = build_backbone(name).layers[-1]
    assert last.activation.__name__ == "relu"


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_describes_any_size_and_is_saved_and_loaded(name, tmp_path):
    """Weights are random here, so only shapes, sizes, saving and scaling are held; arithmetic is held elsewhere."""
    keras.utils.set_random_seed(0)
    network = build_descriptor(DescriptorConfig(backbone=name))
    backbone = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    facts = rows_of((ROOT / "docs" / "backbones.md").read_text())[name]
    stride, dimension = int(facts[1]), int(facts[2])
    assert f"{backbone.count_params() / 1e6:.2f} M" == facts[3]
    describe = tf.function(lambda photos: network(photos, training=False), [tf.TensorSpec([None] * 3 + [3], tf.uint8)])
    look = tf.function(lambda photos: backbone(photos, training=False), [tf.TensorSpec([None] * 3 + [3])])
    rng = np.random.default_rng(1)
    for height, width in ((97, 131), (32, 45), (224, 160)):
        photos = rng.integers(0, 256, (2, height, width, 3)).astype(np.uint8)
        maps = look(scale_pixels(photos, BACKBONES[name].scaling)).shape
        assert maps[3] == dimension
        if not name.startswith("nasnet"):  # of one size inside
            for side, places in zip((height, width), maps[1:3], strict=True):
                # Without padding, as in Inception, up to two positions are lost at the border.
                assert max(1, side // stride - 2) <= places <= math.ceil(side / stride)
        descriptors = describe(photos)
        assert descriptors.shape == (2, dimension)
        np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)
    path = tmp_path / "network.keras"
    network.save(path)
    np.testing.assert_allclose(load_descriptor(path)(photos, training=False), descriptors, atol=1e-5)


@pytest.mark.parametrize("name", OF_KERAS)
def test_scaling_is_that_of_the_applications_preprocess_input(name, monkeypatch):
    maker, _ = application(name, monkeypatch)
    module = sys.modules[getattr(keras.applications, maker).__module__]
    pixels = np.random.default_rng(1).integers(0, 256, (1, 4, 5, 3)).astype(np.float32)
    expected = module.preprocess_input(pixels.copy())
    np.testing.assert_allclose(scale_pixels(pixels, BACKBONES[name].scaling), expected, rtol=1e-6, atol=1e-5)


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


def test_unknown_backbone_is_named_with_ones_like_it():
    with pytest.raises(InputError, match=r"--backbone=resnet9 is unknown; one like .*resnet50.* is wanted") as error:
        build_backbone("resnet9")
    assert f"pipelines.backbones` lists all {len(BACKBONES)}" in one_sentence(error)


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
