import math
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval import layers
from tfretrieval.errors import InputError
from tfretrieval.models.attention import AttentionConfig
from tfretrieval.models.descriptor import (
    DescriptorConfig,
    add_scales,
    build_descriptor,
    freeze_through,
    load_descriptor,
)
from tfretrieval.whitening import Whitening

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


@pytest.mark.parametrize("pooling", layers.POOLINGS)
def test_every_pooling_gives_unit_descriptors_of_any_size(pooling):
    model = build_descriptor(DescriptorConfig(backbone="small_resnet", pooling=pooling))
    for size in ((64, 96), (112, 80)):
        np.testing.assert_allclose(np.linalg.norm(model(photos(2, *size)), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "changes", "flag"),
    [("spoc", {"p": 2.0}, "--p was"), ("mac", {"p_per_channel": True}, "--p_per_channel was"),
     ("rmac", {"p_trainable": False}, "--p_trainable was")],
)  # fmt: skip
def test_an_exponent_that_a_pooling_has_not_is_refused(pooling, changes, flag):
    with pytest.raises(InputError, match=f"{flag} given, and --pooling={pooling} has no such exponent"):
        build_descriptor(DescriptorConfig(backbone="small_resnet", pooling=pooling, **changes))


def test_a_fixed_exponent_is_not_trained():
    model = build_descriptor(DescriptorConfig(backbone="small_resnet", p=4.0, p_trainable=False))
    assert not any(variable.name == "p" for variable in model.trainable_variables)
    assert float(model.get_layer("pooling").p.numpy()) == 4.0


@pytest.mark.parametrize("attention", ["agem", "second_order"])
def test_attention_is_part_of_the_network_its_file_and_its_training(attention, tmp_path):
    config = DescriptorConfig(backbone=BACKBONE, attention=AttentionConfig(attention))
    model = build_descriptor(config)
    freeze_through(model, "block_14_add")
    trained = [variable.path for variable in model.trainable_variables]
    assert any(path.startswith("attention") for path in trained)
    assert not any(path.startswith(("block_3_", "block_14_expand")) for path in trained)
    model.save(tmp_path / "model.keras")
    pixels = photos(2, 70, 50)
    np.testing.assert_allclose(load_descriptor(tmp_path / "model.keras")(pixels), model(pixels), atol=1e-6)


def test_a_whitening_file_gives_the_first_weights_of_a_trained_layer(network, tmp_path):
    rng = np.random.default_rng(0)
    whitening = Whitening(rng.normal(size=1280).astype(np.float32), rng.normal(size=(6, 1280)).astype(np.float32))
    whitening.save(tmp_path / "whitening.npz")
    keras.utils.set_random_seed(0)
    model = build_descriptor(DescriptorConfig(backbone=BACKBONE, whitening_file=str(tmp_path / "whitening.npz")))
    assert any("whitening" in variable.path for variable in model.trainable_variables)
    pixels = photos(3, 40, 40)
    np.testing.assert_allclose(model(pixels), whitening.apply(np.asarray(network(pixels))), atol=1e-5)


def test_the_power_over_scales_is_the_learnt_exponent_only_where_the_papers_code_takes_it():
    made = {
        "gem": DescriptorConfig(backbone="small_resnet", p=2.5),
        "per channel": DescriptorConfig(backbone="small_resnet", p_per_channel=True),
        "whitened": DescriptorConfig(backbone="small_resnet", whitening=8),
        "regional": DescriptorConfig(backbone="small_resnet", pooling="regional_gem"),
        "spoc": DescriptorConfig(backbone="small_resnet", pooling="spoc"),
    }
    powers = {name: add_scales(build_descriptor(c), (1.0, 0.5)).get_layer("scales").power for name, c in made.items()}
    assert powers == {"gem": 2.5, "per channel": 1.0, "whitened": 1.0, "regional": 1.0, "spoc": 1.0}
    assert add_scales(build_descriptor(made["gem"]), (1.0,), math.inf).get_layer("scales").power == math.inf


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
        ({"pooling": "mean"}, "--pooling=mean is unknown; one of gem, spoc, mac"),
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
