"""The signature `delg` as a client of DELG's models uses it: written here anew, from their inputs and outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from export.delg_signature import MOST_SCALES
from export.signatures import ServedDescriptor
from tfretrieval.layers import GeM, InputScaling

SCALES = np.array([0.25, 0.3535, 0.5, 0.7071, 1.0, 1.4142, 2.0], np.float32)
RNG = np.random.default_rng(2)
IMAGE = np.asarray(Image.fromarray(RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)).resize((90, 61), 3))


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(12, 5, 2, padding="same", activation="relu")(InputScaling("torch")(pixels))
    return keras.Model(pixels, keras.layers.UnitNormalization(dtype="float32")(GeM()(maps)))


@pytest.fixture(scope="module")
def session(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("delg") / "1"
    served = ServedDescriptor(network, 64, "{}")
    tf.saved_model.save(served, str(folder), signatures=served.functions)
    opened = tf.compat.v1.Session(graph=tf.Graph())
    with opened.graph.as_default():
        return opened, tf.compat.v1.saved_model.load(opened, ["serve"], str(folder)).signature_def["delg"]


def run(session, image, scales, places):
    opened, signature = session
    inputs = {"input_image": image, "input_scales": scales, "input_global_scales_ind": places}
    feeds = {signature.inputs[name].name: value for name, value in inputs.items()}
    return opened.run(signature.outputs["global_descriptors"].name, feeds)


class DelgClient:
    """Describes a photo as DELG's extraction does: each scale's descriptor to length 1, their mean, to length 1."""

    def __init__(self, session):
        self._session = session

    def extract(self, image, scales, places):
        found = run(self._session, image, scales, np.array(places, np.int32))
        found = found / np.linalg.norm(found, axis=1, keepdims=True)
        mean = found.mean(axis=0)
        return mean / np.linalg.norm(mean)


def alone(network, scale):
    """One scale by the Keras network, the photo resized by Pillow: its triangle filter is TensorFlow's."""
    size = [round(float(np.float32(side) * np.float32(scale))) for side in IMAGE.shape[:2]]
    photo = Image.fromarray(IMAGE).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(network(np.asarray(photo)[np.newaxis], training=False))[0]


def test_its_tensors_are_those_of_delg(session):
    _, signature = session
    inputs = {
        name: ([dim.size for dim in info.tensor_shape.dim], info.dtype) for name, info in signature.inputs.items()
    }
    assert inputs == {
        "input_image": ([-1, -1, 3], tf.uint8.as_datatype_enum),
        "input_scales": ([-1], tf.float32.as_datatype_enum),
        "input_global_scales_ind": ([-1], tf.int32.as_datatype_enum),
    }
    assert set(signature.outputs) == {"global_descriptors"}
    output = signature.outputs["global_descriptors"]
    assert [dim.size for dim in output.tensor_shape.dim] == [-1, 12]
    assert signature.method_name == "tensorflow/serving/predict"


def test_each_scale_is_the_keras_networks_descriptor_of_the_resized_photo(session, network):
    found = run(session, IMAGE, SCALES, np.array([3, 4, 5, 0, 6, 4], np.int32))
    expected = np.stack([alone(network, SCALES[place]) for place in (3, 4, 5, 0, 6, 4)])
    assert found.dtype == np.float32 and found.shape == (6, 12)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (found * expected).sum(axis=1).min() > 0.9999
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)  # the scale 1 is the photo as it is sent
    np.testing.assert_array_equal(found[1], found[5])


def test_a_client_of_delg_gets_its_multi_scale_descriptor(session, network):
    found = DelgClient(session).extract(IMAGE, SCALES, [3, 4, 5])
    mean = np.mean([alone(network, scale) for scale in (0.7071, 1.0, 1.4142)], axis=0)
    assert found @ mean / np.linalg.norm(mean) > 0.9999


def test_a_scale_may_leave_one_pixel_and_none_may_be_asked_for(session):
    found = run(session, IMAGE, np.array([1e-9], np.float32), np.array([0], np.int32))
    np.testing.assert_allclose(np.linalg.norm(found), 1, atol=1e-5)
    assert run(session, IMAGE, SCALES, np.array([], np.int32)).shape == (0, 12)


@pytest.mark.parametrize(
    ("image", "scales", "places", "told"),
    [
        (IMAGE, SCALES, [7], r"input_global_scales_ind: \[7\]; places in the 7 of input_scales are wanted"),
        (IMAGE, SCALES, [0, -1], "input_global_scales_ind"),
        (IMAGE, [], [0], "places in the 0 of input_scales"),
        (IMAGE, [1.0, 0.0], [0, 1], r"input_scales: \[1 0\]; scales above 0 are wanted"),
        (IMAGE, [-1.0], [0], "scales above 0"),
        (IMAGE, [np.nan], [0], "scales above 0"),
        (IMAGE, [np.inf], [0], "scales above 0"),
        (IMAGE, [30.0], [0], r"input_scales: \[30\] make a photo of 61 x 90 larger than 4194304 pixels"),
        (IMAGE, [3e38], [0], "larger than 4194304 pixels"),
        (IMAGE[:0], [1.0], [0], "input_image: no pixel"),
        (IMAGE, [1.0], [0] * (MOST_SCALES + 1), "33 scales; at most 32 are wanted"),
    ],
)
def test_wrong_inputs_are_named(session, image, scales, places, told):
    with pytest.raises(tf.errors.InvalidArgumentError, match=told):
        run(session, image, np.array(scales, np.float32), np.array(places, np.int32))


def test_scales_that_are_not_asked_for_do_not_matter(session):
    odd = np.array([1.0, np.nan, 1e30], np.float32)
    np.testing.assert_allclose(np.linalg.norm(run(session, IMAGE, odd, np.array([0], np.int32))), 1, atol=1e-5)
