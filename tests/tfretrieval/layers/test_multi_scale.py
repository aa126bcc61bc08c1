import math

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


@pytest.mark.parametrize("scale", [0.013, 1 / 3, 0.9, 1.4142])
def test_traced_for_any_size_it_resizes_every_block_of_rows(scale):
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
    traced = tf.function(lambda given: resize(given, scale), input_signature=signature)
    for height, width in ((97, 200), (32, 33), (1, 5)):
        given = photos(height, width)
        size = [max(1, round(side * scale)) for side in (height, width)]
        expected = tf.image.resize(given, size, method="bilinear", antialias=True)
        np.testing.assert_allclose(traced(given), expected, atol=1e-2)
        np.testing.assert_allclose(traced(given), resize(given, scale), atol=1e-3)


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


def test_the_infinite_power_is_the_largest_entry_over_the_scales(network):
    found = [np.asarray(network(np.asarray(resize(photos(), scale))), np.float64) for scale in (1.0, 0.5, 0.75)]
    expected = np.maximum(np.maximum(found[0], found[1]), found[2])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    largest = MultiScale(network, (1.0, 0.5, 0.75), math.inf)(photos())
    np.testing.assert_allclose(np.asarray(largest), expected, atol=1e-5)
    assert np.abs(expected - np.asarray(add_scales(network, (1.0, 0.5, 0.75), 1.0)(photos()))).max() > 1e-3


def test_powers_grow_towards_the_infinite_one_and_negative_entries_may_be_the_largest():
    rows = [np.array([[0.6, -0.8]], np.float32), np.array([[0.8, -0.6]], np.float32)]
    np.testing.assert_allclose(np.asarray(power_mean(rows, math.inf)), [[0.8, -0.6]], atol=1e-6)
    rows = [np.abs(row) for row in rows[:1]] + [np.array([[1.0, 0.0]], np.float32)]
    np.testing.assert_allclose(power_mean(rows, 300.0), power_mean(rows, math.inf), atol=5e-3)


@pytest.mark.parametrize("power", [1.0, 2.5, 10.0, 100.0, math.inf])
def test_gradients_are_finite_where_all_scales_have_zeros(power):
    rows = [tf.constant([[0.6, 0.8, 0.0], [0.0, 0.0, 0.0]]), tf.constant([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])]
    with tf.GradientTape() as tape:
        tape.watch(rows)
        combined = power_mean(rows, power)
    assert np.isfinite(combined).all() and abs(np.asarray(combined)[0, 2]) < 1e-6
    for gradient in tape.gradient(combined, rows):
        assert np.isfinite(gradient).all()


def test_gradients_of_a_power_are_differences_of_the_definition():
    rng = np.random.default_rng(0)
    rows, factors = [rng.uniform(0.1, 1, (2, 4)) for _ in range(3)], rng.normal(size=(2, 4))

    def value(rows):
        mean = (np.mean(np.stack(rows) ** 2.9, axis=0)) ** (1 / 2.9)
        return (mean / np.linalg.norm(mean, axis=1, keepdims=True) * factors).sum()

    tensors = [tf.constant(row, tf.float32) for row in rows]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        total = tf.reduce_sum(power_mean(tensors, 2.9) * factors.astype(np.float32))
    for scale, gradient in enumerate(tape.gradient(total, tensors)):
        for place in np.ndindex(2, 4):
            moved = [[row.copy() for row in rows] for _ in range(2)]
            moved[0][scale][place] -= 1e-6
            moved[1][scale][place] += 1e-6
            expected = (value(moved[1]) - value(moved[0])) / 2e-6
            assert gradient.numpy()[place] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_negative_entries_survive_the_plain_mean():
    rows = [np.array([[0.6, -0.8]], np.float32), np.array([[0.8, -0.6]], np.float32)]
    np.testing.assert_allclose(np.asarray(power_mean(rows, 1.0)), [[0.5**0.5, -(0.5**0.5)]], atol=1e-6)


@pytest.mark.parametrize("power", [None, math.inf])
def test_a_saved_network_loads_without_custom_objects(network, tmp_path, power):
    model = add_scales(network, (1.0, 0.7071), power)
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


@pytest.mark.parametrize("scale", [0.5, 2**-0.5, 0.31, 2**0.5, 2.0])
def test_without_anti_aliasing_resizing_is_pytorchs(scale):
    torch = pytest.importorskip("torch")
    given = torch.from_numpy(photos(63, 81)).permute(0, 3, 1, 2).float()
    expected = torch.nn.functional.interpolate(given, scale_factor=scale, mode="bilinear", align_corners=False)
    found = np.asarray(resize(photos(63, 81), scale, antialias=False))
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), atol=1e-2)
    assert np.isfinite(np.asarray(resize(photos(1, 2), 0.1, antialias=False))).all()


def test_a_network_without_anti_aliasing_keeps_to_it_when_it_is_saved(network, tmp_path):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, MultiScale(network, (1.0, 0.5), antialias=False)(inputs))
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        np.asarray(load_descriptor(tmp_path / "m.keras")(photos())), np.asarray(model(photos()))
    )
    assert np.abs(np.asarray(MultiScale(network, (1.0, 0.5))(photos())) - np.asarray(model(photos()))).max() > 1e-4
