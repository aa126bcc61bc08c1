import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.errors import InputError
from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor, load_descriptor

ROOT = Path(__file__).resolve().parents[3]
BACKBONE = "mobilenet_v2_0.35"


def photos(count, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return build_descriptor(DescriptorConfig(backbone=BACKBONE))


@pytest.fixture(scope="module")
def whitened():
    keras.utils.set_random_seed(0)
    return build_descriptor(DescriptorConfig(backbone="small_resnet", whitening=32))


@pytest.fixture(scope="module")
def describe(network):
    """The network as a graph for any size, the way extraction and the export run it."""
    return tf.function(lambda pixels: network(pixels, training=False), [tf.TensorSpec([None] * 3 + [3], tf.uint8)])


@pytest.mark.parametrize("size", [(32, 32), (64, 40), (33, 47), (31, 97), (224, 45)])
def test_rows_have_length_1_for_any_size(describe, size):
    descriptors = describe(photos(3, *size))
    assert descriptors.shape == (3, 1280) and descriptors.dtype == tf.float32
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("size", [(30, 30), (192, 20), (1, 1), (5, 64)])
def test_photos_smaller_than_the_networks_stride_are_described_too(describe, size):
    pixels = photos(2, *size)
    together = describe(pixels)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for row in range(2):
        np.testing.assert_allclose(describe(pixels[row : row + 1])[0], together[row], atol=1e-5)


def test_uint8_and_float_pixels_give_the_same_descriptors(network):
    pixels = photos(2, 48, 64)
    np.testing.assert_array_equal(network(pixels), network(pixels.astype(np.float32)))


def test_rows_do_not_depend_on_the_rest_of_the_batch(network):
    pixels = photos(4, 48, 64)
    together = np.asarray(network(pixels, training=False))
    for row in range(4):
        np.testing.assert_allclose(network(pixels[row : row + 1], training=False)[0], together[row], atol=1e-6)


def test_whitening_is_linear_on_unit_vectors_and_normalised_again(whitened):
    pixels = photos(3, 64, 64)
    layer = whitened.get_layer("whitening")
    layer.bias.assign(np.linspace(-0.1, 0.1, 32))
    pooled = keras.Model(whitened.input, whitened.get_layer("pooled").output)(pixels)
    expected = np.asarray(pooled, np.float64) @ layer.kernel.numpy() + layer.bias.numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(pooled, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(whitened(pixels), expected, atol=1e-5)
    assert whitened.output_shape == (None, 32)


def test_without_whitening_there_is_no_such_layer(network):
    assert "whitening" not in [layer.name for layer in network.layers]


def test_exponent_options_reach_the_pooling_layer():
    model = build_descriptor(DescriptorConfig(backbone="small_resnet", p=2.5, p_per_channel=True))
    pooling = model.get_layer("pooling")
    assert pooling.p.shape == (256,) and pooling.p.trainable
    np.testing.assert_array_equal(pooling.p.numpy(), np.float32(2.5))


def test_scaling_is_the_backbones():
    model = build_descriptor(DescriptorConfig(backbone="vgg16"))
    assert model.get_layer("input_scaling").mode == "caffe"


def test_saved_file_loads_in_a_fresh_process_that_only_imports_the_module(whitened, tmp_path):
    whitened.save(tmp_path / "model.keras")
    np.save(tmp_path / "photos.npy", photos(2, 40, 56))
    script = (
        "import sys, numpy as np, tfretrieval.models.descriptor, keras\n"
        "model = keras.saving.load_model(sys.argv[1] + '/model.keras')\n"
        "np.save(sys.argv[1] + '/found.npy', model(np.load(sys.argv[1] + '/photos.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), whitened(photos(2, 40, 56)), atol=1e-6)


@pytest.mark.parametrize("backbone", [BACKBONE, "small_resnet"])
def test_load_descriptor_gives_the_same_descriptors(backbone, tmp_path):
    model = build_descriptor(DescriptorConfig(backbone=backbone, p_per_channel=True, whitening=8))
    model.save(tmp_path / "model.keras")
    loaded = load_descriptor(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(photos(2, 40, 56)), model(photos(2, 40, 56)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pooling": "mean"}, "--pooling=mean is unknown; one of gem is wanted."),
        ({"p": 0.0}, "--p=0.0; an exponent of more than 0 is wanted."),
        ({"p": float("nan")}, "--p=nan; an exponent of more than 0 is wanted."),
        ({"whitening": -1}, "--whitening=-1; a dimension, or 0 for no whitening, is wanted."),
        ({"backbone": "resnet9"}, "--backbone=resnet9 is unknown"),
        ({"weights": "absent.weights.h5"}, "--weights=absent.weights.h5 is not a file"),
    ],
)
def test_unknown_parts_are_refused_by_their_flag(changes, sentence):
    with pytest.raises(InputError) as error:
        build_descriptor(DescriptorConfig(**{"backbone": BACKBONE, **changes}))
    assert sentence in str(error.value)


def test_missing_model_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.keras is not a file; a \.keras model is wanted"):
        load_descriptor(tmp_path / "absent.keras")


def test_broken_model_file_is_refused_in_one_sentence(network, tmp_path):
    network.save(tmp_path / "whole.keras")
    whole = (tmp_path / "whole.keras").read_bytes()
    (tmp_path / "text.keras").write_text("no model")
    (tmp_path / "cut.keras").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "archive.keras", "w") as archive:
        archive.writestr("notes.txt", "no model")
    for name in ("text", "cut", "archive"):
        with pytest.raises(InputError, match=rf"{name}\.keras cannot be loaded as a Keras model") as error:
            load_descriptor(tmp_path / f"{name}.keras")
        assert "\n" not in str(error.value)


def test_pretrained_tells_whether_weights_were_given():
    assert DescriptorConfig(weights="imagenet").pretrained
    assert not DescriptorConfig().pretrained and not DescriptorConfig(weights="").pretrained
