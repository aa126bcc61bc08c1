import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from export import signatures
from export.signatures import ServedDescriptor
from tfretrieval.data.decoding import decode_sent
from tfretrieval.layers import GeM, InputScaling

LONGER_SIDE = 48
CARD = json.dumps({"dimension": 12, "image_size": LONGER_SIDE, "model_sha256": "ab" * 32})
FORBIDDEN = {"PyFunc", "EagerPyFunc", "PyFuncStateless"}


def encoded(height, width, image_format, seed=0, mode="RGB", **options):
    """A photo of smooth random colours as a file's bytes."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, len(mode))).astype(np.uint8)
    image = Image.fromarray(small.squeeze(), mode).resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def mixed_photos():
    """Many formats and shapes, some shapes more than once, smaller and much larger than the target."""
    return [
        encoded(40, 64, "JPEG", 1),
        encoded(30, 30, "PNG", 2),
        encoded(64, 40, "JPEG", 3, quality=40),
        encoded(40, 64, "PNG", 4, mode="RGBA"),
        encoded(700, 500, "JPEG", 5),
        encoded(17, 33, "BMP", 6),
        encoded(30, 30, "GIF", 7),
        encoded(40, 64, "JPEG", 8, mode="L"),
        encoded(500, 700, "PNG", 9, mode="L"),
        encoded(30, 30, "JPEG", 10, mode="CMYK"),
        encoded(40, 64, "JPEG", 11, progressive=True),
        encoded(9, 200, "PNG", 12),
        encoded(48, 48, "JPEG", 13),
    ]


def small_network():
    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(InputScaling("torch")(pixels))
    maps = keras.layers.Conv2D(12, 3, 2, padding="same", use_bias=False)(maps)
    maps = keras.layers.ReLU()(keras.layers.BatchNormalization()(maps))
    return keras.Model(pixels, keras.layers.UnitNormalization(dtype="float32")(GeM()(maps)))


@pytest.fixture(scope="module")
def network():
    return small_network()


@pytest.fixture(scope="module")
def served(network):
    return ServedDescriptor(network, LONGER_SIDE, CARD)


@pytest.fixture(scope="module")
def expected(network):
    """Each mixed photo on its own through the Keras model."""
    photos = [decode_sent(tf.constant(photo), tf.constant(1), LONGER_SIDE)[0] for photo in mixed_photos()]
    return np.concatenate([network(photo[tf.newaxis], training=False) for photo in photos])


@pytest.fixture(scope="module")
def saved(served, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "1"
    assert set(served.functions) == {"serving_default", "query", "images", "delg", "card"}
    tf.saved_model.save(served, str(folder), signatures=served.functions)
    return folder


def describe(served, photos):
    return served.serving_default(tf.constant(photos, tf.string))["descriptors"].numpy()


def test_each_row_is_the_keras_models_descriptor_of_its_photo(served, expected):
    found = describe(served, mixed_photos())
    assert found.dtype == np.float32 and found.shape == (13, 12)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    distances = np.linalg.norm(expected[:, None] - expected[None], axis=2) + 9 * np.eye(13)
    assert distances.min() > 1e-3  # a swapped row would show


@pytest.mark.parametrize("seed", range(4))
def test_rows_follow_their_photos_in_any_order(served, expected, seed):
    order = np.random.default_rng(seed).permutation(13)
    photos = mixed_photos()
    np.testing.assert_allclose(describe(served, [photos[row] for row in order]), expected[order], atol=1e-5)


@pytest.mark.parametrize("rows", [[0], [6], [11], [3, 3, 3], [4, 0, 4, 0, 1], [12, 11]])
def test_single_photos_and_duplicates_give_the_same_rows(served, expected, rows):
    photos = mixed_photos()
    np.testing.assert_allclose(describe(served, [photos[row] for row in rows]), expected[rows], atol=1e-5)


def test_no_photos_give_no_rows(served):
    found = describe(served, [])
    assert found.shape == (0, 12) and found.dtype == np.float32


@pytest.mark.parametrize("pixels", [1, 2 * 48 * 30, 3 * 48 * 30 + 7])
def test_groups_larger_than_the_memory_bound_are_cut_without_changing_a_row(network, expected, monkeypatch, pixels):
    monkeypatch.setattr(signatures, "PIXELS_PER_BATCH", pixels)
    cut = ServedDescriptor(network, LONGER_SIDE, CARD)
    photos = mixed_photos()
    order = np.random.default_rng(1).permutation(np.repeat(np.arange(13), 3))
    np.testing.assert_allclose(describe(cut, [photos[row] for row in order]), expected[order], atol=1e-5)


def test_no_run_of_the_network_exceeds_the_memory_bound(monkeypatch):
    """Shapes that the network is really run on, noted by a network that returns them."""

    class Sizes(keras.layers.Layer):
        def call(self, photos):
            shape = tf.cast(tf.shape(photos)[:3], tf.float32)
            return tf.tile(shape[tf.newaxis], [tf.shape(photos)[0], 1])

        def compute_output_shape(self, input_shape):
            return input_shape[0], 3

    pixels = keras.Input((None, None, 3))
    monkeypatch.setattr(signatures, "PIXELS_PER_BATCH", 3 * 30 * 30)
    noting = ServedDescriptor(keras.Model(pixels, Sizes()(pixels)), LONGER_SIDE, CARD)
    photos = [encoded(30, 30, "PNG", seed) for seed in range(8)] + [encoded(48, 20, "PNG", 9)] * 2
    found = describe(noting, photos)
    assert found[:8].tolist() == [[3, 30, 30]] * 6 + [[2, 30, 30]] * 2
    assert found[8:].tolist() == [[2, 48, 20]] * 2


@pytest.mark.parametrize("wrong", [b"", b"no image", b"RIFF\x00\x00\x00\x00WAVEfmt ", b"%PDF-1.4"])
def test_a_row_that_is_no_image_is_named(served, wrong):
    photos = mixed_photos()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image_bytes\[1\]: not an image; one of JPEG, PNG"):
        describe(served, [photos[0], wrong, photos[1]])


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
def test_a_truncated_image_is_an_invalid_argument(served, image_format):
    whole = encoded(64, 64, image_format, 1)
    with pytest.raises(tf.errors.InvalidArgumentError):
        describe(served, [encoded(20, 20, "PNG"), whole[: len(whole) // 2]])


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
def test_a_header_alone_is_an_invalid_argument_that_names_its_row(served, image_format):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image_bytes\[0\]: "):
        describe(served, [encoded(64, 64, image_format)[:9]])


def test_a_wrong_row_does_not_spoil_the_next_request(served, expected):
    with pytest.raises(tf.errors.InvalidArgumentError):
        describe(served, [b"no image"])
    np.testing.assert_allclose(describe(served, mixed_photos()[:2]), expected[:2], atol=1e-5)


def test_card_signature_returns_its_json(served, saved):
    for card in (served.card(), tf.saved_model.load(str(saved)).signatures["card"]()):
        assert json.loads(card["card"].numpy()) == json.loads(CARD)


def test_batch_norm_runs_in_inference_mode_and_is_not_changed(served, network):
    before = [weight.numpy() for weight in network.weights]
    describe(served, mixed_photos())
    for weight, value in zip(network.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_saved_graph_has_standard_ops_only(saved):
    (meta_graph,) = saved_model_pb2.SavedModel.FromString((saved / "saved_model.pb").read_bytes()).meta_graphs
    functions = {function.signature.name for function in meta_graph.graph_def.library.function}
    nodes = [*meta_graph.graph_def.node]
    for function in meta_graph.graph_def.library.function:
        nodes += function.node_def
    used = {node.op for node in nodes} - functions
    assert len(used) > 30
    assert all(op_def_registry.get(name) is not None for name in used)
    assert not used & FORBIDDEN
    assert not [name for name in used if "PyFunc" in name or name.startswith("Xla") or "Custom" in name]


def test_a_version_1_session_loads_it_by_tag_and_signature_the_way_serving_does(saved, expected):
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(saved))
        definition = meta_graph.signature_def["serving_default"]
        assert definition.method_name == "tensorflow/serving/predict"
        assert set(definition.inputs) == {"image_bytes"} and set(definition.outputs) == {"descriptors"}
        put, get = definition.inputs["image_bytes"], definition.outputs["descriptors"]
        assert [dim.size for dim in put.tensor_shape.dim] == [-1] and put.dtype == tf.string.as_datatype_enum
        assert [dim.size for dim in get.tensor_shape.dim] == [-1, 12] and get.dtype == tf.float32.as_datatype_enum
        found = session.run(get.name, {put.name: mixed_photos()})
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert session.run(get.name, {put.name: np.array([], object)}).shape == (0, 12)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"image_bytes\[0\]"):
            session.run(get.name, {put.name: [b"no image"]})
        card = meta_graph.signature_def["card"].outputs["card"].name
        assert json.loads(session.run(card)) == json.loads(CARD)
