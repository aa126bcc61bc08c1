import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.layers.agem import DownsamplingAttention, PointwiseAttention

SYMMETRIC, FAR_SIDE = ((1, 1), (1, 1)), ((0, 1), (0, 1))


def maps(shape=(2, 5, 6, 4), seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def randomise(layer, seed=1):
    """Gives every weight values that a mistake in its use would show; variances stay above 0."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        low = 0.5 if "variance" in weight.name or "gamma" in weight.name else -0.5
        weight.assign(rng.uniform(low, low + 1, weight.shape))


def convolve(inputs, kernel, bias=0.0, stride=1, pads=None):
    """The definition of a convolution, position by position, in float64; pads are those of "same" at stride 1."""
    size = kernel.shape[0]
    pads = pads or ((size // 2, size // 2),) * 2
    padded = np.pad(inputs.astype(np.float64), ((0, 0), *pads, (0, 0)))
    height, width = ((length - size) // stride + 1 for length in padded.shape[1:3])
    outputs = np.zeros((len(inputs), height, width, kernel.shape[-1]))
    for y in range(height):
        for x in range(width):
            window = padded[:, y * stride : y * stride + size, x * stride : x * stride + size]
            outputs[:, y, x] = np.einsum("nyxc,yxcd->nd", window, kernel) + bias
    return outputs


def normalise(inputs, gamma, beta, mean, variance):
    return (inputs - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def sigmoid(inputs):
    return 1 / (1 + np.exp(-inputs))


def loop(layer, inputs, pads):
    """AGeM's Att1 with a layer's weights, from the table of papers.md 2.1."""
    values = {"/".join(weight.path.split("/")[-2:]): np.asarray(weight) for weight in layer.weights}
    for number, (stride, own) in enumerate(((2, pads), (1, None), (1, None)), 1):
        inputs = convolve(inputs, values[f"convolution_{number}/kernel"], stride=stride, pads=own)
        statistics = ("gamma", "beta", "moving_mean", "moving_variance")
        inputs = normalise(inputs, *(values[f"normalization_{number}/{name}"] for name in statistics))
        inputs = np.maximum(inputs, 0)
    return sigmoid(convolve(inputs, values["attention/kernel"], values["attention/bias"]))


def test_sizes_and_weights_are_the_papers():
    first, second = DownsamplingAttention(2048), PointwiseAttention(2048)
    attention = first(maps((1, 5, 4, 1024)))
    assert attention.shape == (1, 3, 2, 2048)
    assert second(attention).shape == (1, 3, 2, 2048)
    for found in (np.asarray(attention), np.asarray(second(attention))):
        assert (found > 0).all() and (found < 1).all() and found.std() > 0.01
    kernels = [[np.prod(w.shape) for w in layer.weights if w.name == "kernel"] for layer in (first, second)]
    assert kernels == [[9 * 1024 * 1024, 9 * 1024 * 512, 512 * 512, 512 * 2048], [2048 * 2048]]
    assert round(sum(kernels[0]) / 1e6, 1) == 15.5 and round(sum(kernels[1]) / 1e6, 1) == 4.2
    assert round((sum(kernels[0]) + 2 * sum(kernels[1])) / 1e6, 2) == 23.86


@pytest.mark.parametrize(
    ("padding", "size"),
    [(padding, size) for padding in (SYMMETRIC, FAR_SIDE, "same") for size in ((5, 6), (6, 5), (7, 7))]
    + [(SYMMETRIC, (1, 2)), ("same", (1, 2))],  # one position padded on one side is less than a window
)
def test_first_unit_equals_the_loop(padding, size):
    layer = DownsamplingAttention(3, padding)
    inputs = maps((2, *size, 4))
    layer.build(inputs.shape)
    randomise(layer)
    # TensorFlow's "same" at stride 2 pads even lengths on the far side, odd ones on both.
    pads = tuple((length % 2, 1) for length in size) if padding == "same" else padding
    expected = loop(layer, inputs, pads)
    assert expected.shape == layer.compute_output_shape(inputs.shape)
    np.testing.assert_allclose(layer(inputs, training=False), expected, rtol=2e-5)


def test_second_unit_equals_the_loop():
    layer, inputs = PointwiseAttention(3), maps()
    layer.build(inputs.shape)
    randomise(layer)
    kernel, bias = (np.asarray(weight) for weight in layer.weights)
    np.testing.assert_allclose(layer(inputs), sigmoid(convolve(inputs, kernel, bias)), rtol=1e-5)


@pytest.mark.parametrize("padding", [SYMMETRIC, FAR_SIDE, "same"])
@pytest.mark.parametrize("size", [8, 9])
def test_symbolic_sizes_are_the_real_ones(padding, size):
    layer = DownsamplingAttention(2, padding)
    symbolic = layer(keras.Input((size, size + 1, 4)))
    real = layer(maps((1, size, size + 1, 4)))
    assert symbolic.shape[1:] == tuple(real.shape[1:])
    assert layer(keras.Input((None, None, 4))).shape == (None, None, None, 2)


@pytest.mark.parametrize("layer", [DownsamplingAttention, PointwiseAttention])
def test_bias_is_that_of_the_sigmoid(layer):
    unit = layer(3, bias=-3.0)
    attention = unit(np.zeros((1, 4, 4, 2), np.float32))
    np.testing.assert_allclose(attention, sigmoid(-3.0), rtol=1e-5)


def test_batch_statistics_move_in_training_alone():
    layer = DownsamplingAttention(3)
    layer.build((None, None, None, 4))
    before = [np.asarray(weight) for weight in layer.non_trainable_weights]
    assert len(before) == 6
    layer(maps(), training=False)
    for old, weight in zip(before, layer.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(weight, old)
    layer(maps(), training=True)
    for old, weight in zip(before, layer.non_trainable_weights, strict=True):
        assert np.abs(np.asarray(weight) - old).max() > 1e-4


def test_moving_statistics_are_pytorchs():
    layer, inputs = DownsamplingAttention(3), maps()
    layer.build(inputs.shape)
    values = {weight.path.split("/", 1)[1]: weight for weight in layer.weights}
    convolved = convolve(inputs, np.asarray(values["convolution_1/kernel"]), stride=2, pads=SYMMETRIC)
    layer(inputs, training=True)
    np.testing.assert_allclose(
        values["normalization_1/moving_mean"], 0.1 * convolved.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_float16", 3e-3), ("mixed_bfloat16", 3e-2)])
@pytest.mark.parametrize("kind", [DownsamplingAttention, PointwiseAttention])
def test_attention_is_float32_under_mixed_precision(kind, policy, tolerance):
    exact, mixed = kind(3), kind(3, dtype=policy)
    for layer in (exact, mixed):
        layer.build((None, None, None, 4))
    mixed.set_weights(exact.get_weights())
    attention = mixed(maps())
    assert attention.dtype == tf.float32 and {w.dtype for w in mixed.weights} == {"float32"}
    np.testing.assert_allclose(attention, exact(maps()), atol=tolerance)
    symbolic = mixed(keras.Input((None, None, 4)))
    assert (symbolic.shape, symbolic.dtype) == ((None, None, None, 3), "float32")


def test_a_nearly_open_gate_still_learns_in_float16():
    layer = PointwiseAttention(1, bias=12.0, dtype="mixed_float16")
    layer.build((None, None, None, 1))
    layer.convolution.kernel.assign(np.zeros((1, 1, 1, 1)))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(np.ones((1, 1, 1, 1), np.float32))) * 1024.0  # as loss scaling does
    (gradient,) = tape.gradient(total, [layer.convolution.bias.value])
    np.testing.assert_allclose(gradient, [1024 * sigmoid(12.0) * (1 - sigmoid(12.0))], rtol=2e-3)


@pytest.mark.parametrize("padding", [FAR_SIDE, "same"])
def test_saved_in_a_model_they_load_without_custom_objects(tmp_path, padding):
    inputs = keras.Input((None, None, 4))
    attention = DownsamplingAttention(6, padding, bias=0.5, name="attention_1")(inputs)
    model = keras.Model(inputs, PointwiseAttention(5, bias=-1.0, name="attention_2_1")(attention))
    randomise(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(maps()), model(maps()))
    for name in ("attention_1", "attention_2_1"):
        assert loaded.get_layer(name).get_config() == model.get_layer(name).get_config()


@pytest.mark.parametrize("kind", [DownsamplingAttention, PointwiseAttention])
def test_bad_filters_and_inputs_are_refused(kind):
    with pytest.raises(ValueError, match="1 or more are wanted"):
        kind(0)
    with pytest.raises(ValueError, match="ndim=4"):
        kind(2)(np.ones((2, 3), np.float32))
