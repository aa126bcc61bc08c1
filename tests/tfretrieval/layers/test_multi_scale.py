import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.errors import InputError
from tfretrieval.layers.multi_scale import MultiScale, power_mean, resize
from tfretrieval.models.descriptor import DescriptorConfig, add_scales, build_descriptor, load_descriptor


@pytest.fixture(scope="module")
def network():
    return build_descriptor(DescriptorConfig(backbone="small_resnet"))


def photos(height=64, width=80):
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)


def test_one_scale_is_the_network_itself(network):
    expected = np.asarray(network(photos()))
    np.testing.assert_allclose(np.asarray(add_scales(network, (1.0,), power=1.0)(photos())), expected, atol=1e-6)


@pytest.mark.parametrize("power", [1.0, 3.0, 2.5])
def test_several_scales_are_the_explicit_mean_of_powers(network, power):
    scales = (1.0, 0.5, 0.75)
    total = np.zeros((2, 256))
    for scale in scales:
        total += np.asarray(network(np.asarray(resize(photos(), scale))), np.float64) ** power
    expected = (total / 3) ** (1 / power)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(add_scales(network, scales, power)(photos())), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 0.7071, 0.31, 1.4142, 2.0])
def test_resizing_is_tensorflows_anti_aliased_bilinear_filter(scale):
    size = [max(1, round(side * scale)) for side in (63, 81)]
    expected = tf.image.resize(photos(63, 81), size, method="bilinear", antialias=True)
    np.testing.assert_allclose(np.asarray(resize(photos(63, 81), scale)), expected, atol=1e-2)


def test_sizes_need_not_be_known_when_a_graph_is_traced(network):
    model = add_scales(network, (1.0, 0.7071))
    traced = tf.function(lambda given: model(given), input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
    for size in ((64, 80), (40, 33)):
        np.testing.assert_allclose(traced(photos(*size)), np.asarray(model(photos(*size))), atol=1e-5)


def test_halving_is_near_the_mean_of_blocks_and_sides_are_rounded():
    found = np.asarray(resize(photos(65, 81), 0.5))
    assert found.shape == (2, 32, 40, 3)
    smooth = cv2.GaussianBlur(photos()[0], (0, 0), 4)
    expected = cv2.resize(smooth, (40, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(np.asarray(resize(smooth[None], 0.5))[0], expected, atol=3)
    assert np.asarray(resize(photos(2, 3), 0.01)).shape == (2, 1, 1, 3)


def test_the_default_power_is_gems_own_exponent_unless_a_whitening_follows(network):
    (layer,) = (part for part in add_scales(network, (1.0, 0.5)).layers if isinstance(part, MultiScale))
    assert layer.power == 3.0
    whitened = build_descriptor(DescriptorConfig(backbone="small_resnet", whitening=8))
    (layer,) = (part for part in add_scales(whitened, (1.0, 0.5)).layers if isinstance(part, MultiScale))
    assert layer.power == 1.0


def test_negative_entries_survive_the_plain_mean():
    rows = [np.array([[0.6, -0.8]], np.float32), np.array([[0.8, -0.6]], np.float32)]
    np.testing.assert_allclose(np.asarray(power_mean(rows, 1.0)), [[0.5**0.5, -(0.5**0.5)]], atol=1e-6)


def test_a_saved_network_loads_without_custom_objects(network, tmp_path):
    model = add_scales(network, (1.0, 0.7071))
    model.save(tmp_path / "m.keras")
    expected = np.asarray(model(photos()))
    np.testing.assert_array_equal(np.asarray(load_descriptor(tmp_path / "m.keras")(photos())), expected)
    assert keras.saving.get_registered_object("tfretrieval>MultiScale") is MultiScale


@pytest.mark.parametrize(
    ("scales", "power", "sentence"),
    [((), None, "--scales="), ((1.0, -1.0), None, "--scales=1.0,-1.0"), ((1.0,), 0.0, "--power=0.0")],
)
def test_scales_and_powers_out_of_range_are_refused(network, scales, power, sentence):
    with pytest.raises(InputError, match=sentence):
        add_scales(network, scales, power)


def test_scales_are_added_once(network):
    with pytest.raises(InputError, match="several scales already"):
        add_scales(add_scales(network, (1.0,)), (1.0,))
