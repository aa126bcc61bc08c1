import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.layers import POOLINGS, GeM
from tfretrieval.layers.gem import gem
from tfretrieval.models.descriptor import DescriptorConfig

EPSILON = 1e-6


def positive_maps(shape=(2, 4, 5, 3), seed=0, low=0.01, high=5.0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def loop(maps, exponents):
    """The definition, photo by photo and channel by channel, in float64."""
    count, height, width, channels = maps.shape
    pooled = np.zeros((count, channels))
    for n in range(count):
        for k in range(channels):
            total = 0.0
            for y in range(height):
                for x in range(width):
                    total += max(float(maps[n, y, x, k]), EPSILON) ** float(exponents[k])
            pooled[n, k] = (total / (height * width)) ** (1 / float(exponents[k]))
    return pooled


def gradients(maps, p):
    """TensorFlow's gradients of the sum of all pooled values, with respect to maps and exponent."""
    maps, p = tf.constant(maps), tf.constant(p, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([maps, p])
        total = tf.reduce_sum(gem(maps, p))
    return [gradient.numpy() for gradient in tape.gradient(total, [maps, p])]


def closed_forms(maps, exponents):
    """df/dx [N, H, W, C] and df/dp [N, C] of papers.md 1.2, in float64."""
    x, p = maps.astype(np.float64), np.asarray(exponents, np.float64)
    positions = x.shape[1] * x.shape[2]
    powers = (x**p).sum(axis=(1, 2))
    f = (powers / positions) ** (1 / p)
    by_map = f[:, None, None] ** (1 - p) * x ** (p - 1) / positions
    by_p = f / p**2 * (np.log(positions / powers) + p * (x**p * np.log(x)).sum(axis=(1, 2)) / powers)
    return by_map, by_p


def test_exponent_1_is_the_mean():
    maps = positive_maps()
    np.testing.assert_allclose(gem(maps, 1.0), maps.mean(axis=(1, 2)), rtol=1e-6)


def test_large_exponent_is_close_to_the_maximum_and_never_above():
    maps = positive_maps(shape=(3, 7, 7, 8))
    pooled, largest = np.asarray(gem(maps, 100.0)), maps.max(axis=(1, 2))
    # At least one of 49 positions holds the maximum: the mean of powers is at least max^100 / 49.
    assert (pooled <= largest * (1 + 1e-6)).all()
    assert (pooled >= largest * 49 ** (-1 / 100) * (1 - 1e-6)).all()


@pytest.mark.parametrize("p", [0.5, 2.9, 3.0, 10.0])
def test_shared_exponent_equals_the_loop(p):
    maps = positive_maps()
    np.testing.assert_allclose(gem(maps, p), loop(maps, [p] * 3), rtol=2e-6)


def test_negative_and_zero_activations_count_as_epsilon():
    maps = positive_maps(low=-1.0, high=1.0)
    maps[0, :, :, 1] = 0
    np.testing.assert_allclose(gem(maps, 3.0), loop(maps, [3.0] * 3), rtol=2e-6)


def test_layer_with_an_exponent_per_channel_equals_the_loop():
    maps, exponents = positive_maps(), [1.0, 3.0, 6.5]
    layer = GeM(per_channel=True)
    layer.build(maps.shape)
    assert layer.p.shape == (3,)
    layer.p.assign(exponents)
    np.testing.assert_allclose(layer(maps), loop(maps, exponents), rtol=2e-6)


@pytest.mark.parametrize("p", [1.0, 2.9, 3.0, 10.0, 100.0])
def test_gradients_equal_the_closed_forms(p):
    maps = positive_maps(low=0.2, high=2.0)
    by_map, by_p = closed_forms(maps, [p] * 3)
    found_by_map, found_by_p = gradients(maps, p)
    np.testing.assert_allclose(found_by_map, by_map, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found_by_p, by_p.sum(), rtol=1e-4, atol=1e-6)


def test_gradients_of_each_channels_exponent_equal_the_closed_form():
    maps, exponents = positive_maps(low=0.2, high=2.0), [1.0, 3.0, 8.0]
    by_map, by_p = closed_forms(maps, exponents)
    found_by_map, found_by_p = gradients(maps, exponents)
    np.testing.assert_allclose(found_by_map, by_map, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found_by_p, by_p.sum(axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("p", [1.0, 3.0, 10.0, 100.0])
@pytest.mark.parametrize("fill", ["zeros", "one position", "tiny", "huge"])
def test_values_and_gradients_are_finite(p, fill):
    maps = np.zeros((2, 4, 4, 3), np.float32)
    if fill == "one position":
        maps[:, 1, 2] = 7.0
    if fill != "zeros" and fill != "one position":
        maps[:] = {"tiny": 1e-30, "huge": 1e30}[fill]
    pooled = np.asarray(gem(maps, p))
    by_map, by_p = gradients(maps, p)
    assert np.isfinite(pooled).all() and np.isfinite(by_map).all() and np.isfinite(by_p).all()
    expected = {"zeros": EPSILON, "tiny": EPSILON, "huge": 1e30}.get(fill, 7.0 * 16 ** (-1 / p))
    np.testing.assert_allclose(pooled, expected, rtol=1e-5)


@pytest.mark.parametrize(("policy", "half"), [("mixed_bfloat16", tf.bfloat16), ("mixed_float16", tf.float16)])
def test_result_is_float32_and_the_exponent_is_not_rounded_under_mixed_precision(policy, half):
    maps = positive_maps()
    layer = GeM(p=2.9, dtype=policy)
    pooled = layer(maps)
    rounded = tf.cast(tf.cast(maps, half), tf.float32).numpy()  # the policy rounds the layer's input, and nothing else
    assert layer.p.dtype == "float32"
    assert pooled.dtype == tf.float32
    np.testing.assert_allclose(pooled, loop(rounded, [2.9] * 3), rtol=5e-6)


def test_symbolic_output_under_mixed_precision_is_float32():
    output = GeM(dtype="mixed_float16")(keras.Input((None, None, 8)))
    assert (output.shape, output.dtype) == ((None, 8), "float32")


@pytest.mark.parametrize("per_channel", [False, True])
def test_saved_in_a_model_it_loads_without_custom_objects(tmp_path, per_channel):
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, GeM(2.0, per_channel, trainable_p=False, epsilon=1e-4, name="pooling")(inputs))
    model.get_layer("pooling").p.assign(np.linspace(2, 5, 4) if per_channel else 4.5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    maps = positive_maps((2, 3, 5, 4))
    np.testing.assert_array_equal(loaded(maps), model(maps))
    assert loaded.get_layer("pooling").get_config() == model.get_layer("pooling").get_config()
    assert not loaded.get_layer("pooling").p.trainable


def test_the_exponent_is_named_p_and_is_learnt_unless_told_otherwise():
    learnt, fixed = GeM(), GeM(trainable_p=False)
    for layer in (learnt, fixed):
        layer.build((None, None, None, 2))
        assert [weight.name for weight in layer.weights] == ["p"]
        assert layer.p.shape == () and float(layer.p.numpy()) == 3.0
    assert [weight.name for weight in learnt.trainable_variables] == ["p"]
    assert fixed.trainable_variables == []


@pytest.mark.parametrize("p", [0, -1.0, float("nan")])
def test_exponent_not_above_0_is_refused(p):
    with pytest.raises(ValueError, match="more than 0 is wanted"):
        GeM(p=p)


def test_input_without_positions_axes_is_refused():
    with pytest.raises(ValueError, match=r"tokens .* are wanted"):
        GeM()(np.ones((2, 3), np.float32))


def test_registry_equals_the_flags_choices():
    (field,) = (field for field in DescriptorConfig.__dataclass_fields__.values() if field.name == "pooling")
    assert field.metadata["choices"] == tuple(POOLINGS)
    assert all(issubclass(pooling, keras.layers.Layer) for pooling in POOLINGS.values())
