import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.layers.second_order_attention import SecondOrderAttention, attention_scores


def maps(shape=(2, 3, 4, 6), seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def randomised(reduction=2, channels=6, seed=1, **kwargs):
    """A built block none of whose weights is zero."""
    layer, rng = SecondOrderAttention(reduction, **kwargs), np.random.default_rng(seed)
    layer.build((None, None, None, channels))
    for weight in layer.weights:
        low = 0.5 if "variance" in weight.name or "gamma" in weight.name else -0.5
        weight.assign(rng.uniform(low, low + 1, weight.shape))
    return layer


def loop(layer, inputs):
    """The definition, position by position, in float64: maps and scores."""
    values = {"/".join(weight.path.split("/")[-2:]): np.asarray(weight, np.float64) for weight in layer.weights}

    def convolve(x, name):
        return values[f"{name}/kernel"][0, 0].T @ x + values[f"{name}/bias"]

    def project(x, name):
        gamma, beta, mean, variance = (
            values[f"{name}_normalization/{kind}"] for kind in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return np.maximum((convolve(x, name) - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)

    count, height, width, channels = inputs.shape
    outputs, scores = np.zeros(inputs.shape), np.zeros((count, height * width, height * width))
    for n in range(count):
        positions = inputs[n].reshape(-1, channels).astype(np.float64)
        for i, x in enumerate(positions):
            query = project(x, "f")
            logits = [query @ project(other, "g") / np.sqrt(len(query)) for other in positions]
            weights = np.exp(logits) / np.exp(logits).sum()
            scores[n, i] = weights
            taken = sum(weight * convolve(other, "h") for weight, other in zip(weights, positions, strict=True))
            outputs[n, i // width, i % width] = x + convolve(taken, "v")
    return outputs, scores


@pytest.mark.parametrize("reduction", [1, 2, 4])
def test_maps_and_scores_equal_the_loop(reduction):
    layer, inputs = randomised(reduction), maps()
    assert layer.f.kernel.shape == (1, 1, 6, 6 // reduction)
    found, scores = layer(inputs, training=False), layer.scores(inputs)
    expected, expected_scores = loop(layer, inputs)
    assert np.abs(expected - inputs).max() > 0.1
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("training", [False, True])
def test_it_begins_as_the_identity(policy, training):
    layer, inputs = SecondOrderAttention(dtype=policy), maps()
    found = layer(inputs, training=training)
    np.testing.assert_array_equal(tf.cast(found, tf.float32), tf.cast(tf.cast(inputs, found.dtype), tf.float32))


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_float16", 1e-2), ("mixed_bfloat16", 8e-2)])
def test_mixed_precision_is_close_and_its_scores_are_float32(policy, tolerance):
    exact, mixed, inputs = randomised(), randomised(dtype=policy), maps()
    found = mixed(inputs)
    scores = mixed.scores(tf.cast(inputs, found.dtype))
    assert found.dtype == mixed.compute_dtype and scores.dtype == tf.float32
    np.testing.assert_allclose(np.sum(scores, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(tf.cast(found, tf.float32), exact(inputs), atol=tolerance)


def test_large_activations_do_not_overflow_in_float16():
    # Products of two vectors of 64 entries of 100 are 640,000, ten times the largest float16.
    queries = np.zeros((1, 1, 3, 64), np.float16)
    queries[0, 0, 1] = 100
    scores = np.asarray(attention_scores(queries, queries))
    np.testing.assert_allclose(scores, [[[1 / 3] * 3, [0, 1, 0], [1 / 3] * 3]], atol=1e-6)


def test_positions_may_be_rearranged():
    layer, inputs = randomised(), maps((1, 3, 4, 6))
    turned = layer(inputs[:, ::-1].transpose(0, 2, 1, 3))
    np.testing.assert_allclose(np.transpose(turned, (0, 2, 1, 3))[:, ::-1], layer(inputs), atol=1e-5)


def test_gradients_reach_v_at_once_and_all_weights_after_a_step():
    def gradients(layer):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(maps(), training=False) ** 2)
        found = tape.gradient(total, [weight.value for weight in layer.trainable_weights])
        return {
            weight.path: np.abs(gradient).max() for weight, gradient in zip(layer.trainable_weights, found, strict=True)
        }

    layer = SecondOrderAttention(name="attention_5")
    layer(maps())
    reached = {path for path, size in gradients(layer).items() if size > 0}
    assert reached == {"attention_5/v/kernel", "attention_5/v/bias"}
    assert min(gradients(randomised()).values()) > 1e-5


def test_saved_in_a_model_it_loads_without_custom_objects(tmp_path):
    inputs, layer = keras.Input((None, None, 6)), randomised(3, name="attention_5")
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(maps()), model(maps()))
    assert loaded.get_layer("attention_5").get_config() == layer.get_config()


@pytest.mark.parametrize("size", [(3, 4), (None, 4), (None, None)])
def test_symbolic_output(size):
    found = SecondOrderAttention(dtype="mixed_float16")(keras.Input((*size, 6)))
    assert (found.shape, found.dtype) == ((None, *size, 6), "float16")


def test_bad_reduction_and_inputs_are_refused():
    with pytest.raises(ValueError, match="1 or more is wanted"):
        SecondOrderAttention(0)
    with pytest.raises(ValueError, match="ndim=4"):
        SecondOrderAttention()(np.ones((2, 3), np.float32))
