import keras
import numpy as np
import pytest
import tensorflow as tf

from export import network_graph, precision
from export.precision import DequantisedWeight, FrozenNetwork, quantise
from tfretrieval.errors import InputError
from tfretrieval.layers import GeM, InputScaling


@pytest.fixture(autouse=True)
def _large_weights(monkeypatch):
    """Weights of the tests' networks count as large."""
    monkeypatch.setattr(network_graph, "CONSTANT_ELEMENTS", 64)


def small_network(seed=0):
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(8, 3, 2, padding="same", use_bias=False)(InputScaling("torch")(pixels))
    maps = keras.layers.ReLU()(keras.layers.BatchNormalization()(maps))
    maps = keras.layers.DepthwiseConv2D(3, padding="same")(maps)
    maps = keras.layers.Conv2D(12, 3, 2, padding="same", activation="relu")(maps)
    return keras.Model(pixels, keras.layers.UnitNormalization(dtype="float32")(GeM()(maps)))


def photos():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, size, np.uint8) for size in ((2, 40, 30, 3), (1, 21, 64, 3))]


@pytest.fixture(scope="module")
def model():
    return small_network()


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("float32", 0.9999999, 1.1), ("bfloat16", 0.999, 1), ("int8", 0.999, 1)]
)
def test_each_precision_describes_like_the_keras_model(model, kind, least, most):
    frozen = FrozenNetwork(model, kind)
    assert frozen.output_shape == (None, 12)
    for images in photos():
        found, wanted = frozen(tf.constant(images)).numpy(), model(images, training=False).numpy()
        assert found.dtype == np.float32 and found.shape == wanted.shape
        cosines = (found.astype(np.float64) * wanted).sum(axis=1)
        assert least < cosines.min() < most
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_saved_network_works_in_a_session_without_the_keras_model(model, kind, tmp_path):
    module = tf.Module()
    module.frozen = FrozenNetwork(model, kind)
    spec = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
    call = tf.function(lambda images: {"y": module.frozen(images)}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": call})
    wanted = module.frozen(tf.constant(photos()[0])).numpy()
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path)).signature_def["serving_default"]
        found = session.run(signature.outputs["y"].name, {signature.inputs["images"].name: photos()[0]})
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(call(photos()[0])["y"], wanted, atol=1e-6)


def test_int8_files_are_about_a_quarter_of_float32(tmp_path):
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(256, 3)(keras.layers.Conv2D(128, 3)(pixels))
    wide = keras.Model(pixels, keras.layers.GlobalMaxPooling2D()(maps))
    sizes = {}
    for kind in ("float32", "bfloat16", "int8"):
        module = tf.Module()
        module.frozen = FrozenNetwork(wide, kind)
        spec = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
        call = tf.function(lambda images, module=module: {"y": module.frozen(images)}).get_concrete_function(spec)
        tf.saved_model.save(module, str(tmp_path / kind), signatures=call)
        sizes[kind] = sum(path.stat().st_size for path in (tmp_path / kind).rglob("*"))
    assert sizes["int8"] < 0.3 * sizes["float32"] and 0.48 < sizes["bfloat16"] / sizes["float32"] < 0.6


@pytest.mark.parametrize(
    ("kind", "most", "constants"), [("bfloat16", 1 << 30, 3), ("bfloat16", 100, 0), ("float32", 1, 0)]
)
def test_weights_are_constants_in_bfloat16_as_far_as_a_graph_holds_them(model, monkeypatch, kind, most, constants):
    monkeypatch.setattr(precision, "_CONSTANT_BYTES", most)
    frozen = FrozenNetwork(model, kind)
    assert len(frozen._weights) == 3
    assert sum(isinstance(weight, np.ndarray) for weight in frozen._weights) == constants
    found = frozen(tf.constant(photos()[0])).numpy()
    assert (found * model(photos()[0], training=False).numpy()).sum(axis=1).min() > 0.999


def test_an_unknown_precision_is_refused(model):
    with pytest.raises(InputError, match="--precision=float16 is unknown; one of float32, bfloat16, int8 is wanted"):
        FrozenNetwork(model, "float16")


def test_bfloat16_where_nothing_is_rewritten_is_refused():
    pixels = keras.Input((None, None, 3))
    bare = keras.Model(pixels, keras.layers.GlobalMaxPooling2D()(pixels))
    with pytest.raises(InputError, match="--precision=bfloat16: TensorFlow rewrote nothing of the network"):
        FrozenNetwork(bare, "bfloat16")


@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (40, 7), (3, 3, 9, 1)])
def test_quantise_rounds_by_the_largest_value_of_each_channel(shape):
    weight = np.random.default_rng(0).normal(0, 2, shape).astype(np.float32)
    weight[..., 0, :] *= 0.01
    values, scales = quantise(weight)
    assert values.dtype == np.int8 and scales.dtype == np.float32 and values.shape == shape
    channels = weight.reshape(-1, 9) if shape[-1] == 1 else weight.reshape(-1, shape[-1])
    rounded, flat_scales = values.reshape(channels.shape), scales.reshape(-1)
    assert len(flat_scales) == channels.shape[1]
    for column in range(channels.shape[1]):
        largest = max(abs(float(value)) for value in channels[:, column])
        assert flat_scales[column] == pytest.approx(largest / 127, rel=1e-6)
        for value, whole in zip(channels[:, column], rounded[:, column], strict=True):
            assert abs(float(value) - int(whole) * largest / 127) <= largest / 127 * 0.5001
    np.testing.assert_allclose(values * scales, weight, atol=float(scales.max()) * 0.501)


def test_quantise_of_zeros_is_zeros():
    values, scales = quantise(np.zeros((3, 4), np.float32))
    assert not values.any() and (scales == 1).all()


def test_weights_of_different_content_do_not_share_memory():
    values = np.arange(6, dtype=np.int8).reshape(2, 3)
    scales = np.ones(3, np.float32)
    first, second = DequantisedWeight(values, scales), DequantisedWeight(values, scales * 2)
    np.testing.assert_array_equal(first.read_value(), values)
    np.testing.assert_array_equal(second.read_value(), values * 2)
    again = DequantisedWeight(values.reshape(3, 2), np.ones(2, np.float32))
    assert again.read_value().shape == (3, 2)
    np.testing.assert_array_equal(first.read_value(), values)
