import io
import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from export.object_signature import ObjectSettings, ServedObjects
from tfretrieval.data.decoding import decode_photo
from tfretrieval.errors import InputError

MOST, LEAST_SCORE, OVERLAP = 4, 0.55, 0.4  # of `object_base`
NAMES = np.array([b"coin", b"key", b"stamp"], object)
FLOATS = ("descriptors", "object_descriptors", "boxes", "scores")


class Session:
    """The export as TensorFlow Serving runs it: loaded by tag into a session, called by a signature's tensor names."""

    def __init__(self, version):
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            self.graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(version))

    def __call__(self, photos, signature="objects", **thresholds):
        known = self.graph.signature_def[signature]
        feeds = {"image_bytes": np.array(photos, object), **thresholds}
        fetches = {name: info.name for name, info in known.outputs.items()}
        return self._session.run(fetches, {known.inputs[name].name: value for name, value in feeds.items()})


@pytest.fixture(scope="module")
def session(object_base):
    return Session(object_base / "1")


@pytest.fixture(scope="module")
def alone(guided_run, object_photos):
    """What the Keras network says of one photo by itself, with boxes in pixels of the file."""
    model = guided_run.load_model()
    photos, sizes = object_photos

    def find(place, least_score=LEAST_SCORE, overlap=OVERLAP):
        pixels = tf.cast(decode_photo(tf.constant(photos[place]), 48)[tf.newaxis], tf.float32)
        found = {
            name: value.numpy()[0]
            for name, value in model.find_and_describe(pixels, MOST, least_score, overlap).items()
        }
        found["boxes"] = found["boxes"] * np.tile(sizes[place], 2)
        names = NAMES[found["classes"]]
        names[found["count"] :] = b""
        return {**found, "class_names": names}

    return find


def check(found, row, expected):
    for name, values in expected.items():
        if name in FLOATS:
            tolerance = {"rtol": 1e-4, "atol": 1e-3} if name == "boxes" else {"atol": 1e-5}
            np.testing.assert_allclose(found[name][row], values, **tolerance, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name][row], values, err_msg=name)


def test_each_row_is_what_the_keras_network_says_of_its_photo_and_thresholds_may_be_left_out(
    session, alone, object_photos
):
    photos, sizes = object_photos
    found = session(photos)
    for row in range(len(photos)):
        check(found, row, alone(row))
    assert {name: values.dtype for name, values in found.items() if name not in FLOATS} == {
        "classes": np.int32,
        "count": np.int32,
        "class_names": object,
    }
    assert all(found[name].dtype == np.float32 for name in FLOATS)
    assert found["count"].max() == MOST and len(set(found["classes"][found["scores"] > 0])) > 1
    large = found["boxes"][5, : found["count"][5]]
    assert large.max() > 100  # pixels of the file, not of the 48 that the network sees
    assert (found["boxes"] <= np.tile(sizes, 2)[:, None] + 1e-3).all()
    np.testing.assert_allclose(np.linalg.norm(found["descriptors"], axis=1), 1, atol=1e-5)


def test_rows_follow_their_photos_in_any_order(session, alone, object_photos):
    for seed in range(3):
        order = np.random.default_rng(seed).integers(0, 6, 9)
        found = session([object_photos[0][place] for place in order])
        for row, place in enumerate(order):
            check(found, row, alone(place))


@pytest.mark.parametrize("thresholds", [{"least_score": 0.8}, {"overlap": 0.05}, {"least_score": 0.0, "overlap": 1.0}])
def test_one_threshold_for_all_photos(session, alone, object_photos, thresholds):
    found = session(object_photos[0], **thresholds)
    for row in range(6):
        check(found, row, alone(row, **thresholds))


def test_a_threshold_for_each_photo_is_its_own_alone(session, alone, object_photos):
    places, least_scores, overlaps = [0, 0, 4, 0, 5], [0.5, 0.9, 0.5, 0.5, 0.7], [0.4, 0.4, 0.4, 0.0, 0.2]
    found = session([object_photos[0][place] for place in places], least_score=least_scores, overlap=overlaps)
    for row, (place, *thresholds) in enumerate(zip(places, least_scores, overlaps, strict=True)):
        check(found, row, alone(place, *thresholds))
    assert len({tuple(scores) for scores in found["scores"][[0, 1, 3]].tolist()}) > 1  # a swap would show


def test_a_photo_without_objects_has_zeros_and_its_own_descriptor(session, object_photos):
    bare, found = session(object_photos[0], least_score=1.0), session(object_photos[0])
    assert bare["count"].tolist() == [0] * 6
    assert not any(bare[name].any() for name in ("object_descriptors", "boxes", "scores", "classes"))
    assert set(bare["class_names"].ravel()) == {b""}
    np.testing.assert_array_equal(bare["descriptors"], found["descriptors"])


def test_no_photos_give_no_rows(session):
    shapes = {name: values.shape for name, values in session([]).items()}
    assert shapes == {
        "descriptors": (0, 16),
        "object_descriptors": (0, MOST, 16),
        "boxes": (0, MOST, 4),
        "scores": (0, MOST),
        "classes": (0, MOST),
        "class_names": (0, MOST),
        "count": (0,),
    }


@pytest.mark.parametrize(
    ("thresholds", "told"),
    [
        ({"least_score": 1.5}, r"least_score: 1\.5; a share from 0 to 1 is wanted"),
        ({"overlap": -0.1}, r"overlap: -0\.1; a share"),
        ({"overlap": math.nan}, r"overlap: nan; a share"),
        ({"least_score": [0.1, 0.2, 7.0, 0.1, 0.1, 0.1]}, r"least_score: \[0\.1 0\.2 7 0\.1 0\.1 0\.1\]; a share"),
        ({"least_score": [0.1, 0.2]}, r"least_score: shape \[2\]; a scalar or one for each photo is wanted"),
        ({"overlap": np.full((6, 1), 0.5)}, r"overlap: shape \[6 1\]; a scalar or one for each photo"),
    ],
)
def test_a_threshold_that_is_none_is_named(session, object_photos, thresholds, told):
    with pytest.raises(tf.errors.InvalidArgumentError, match=told):
        session(object_photos[0], **thresholds)


@pytest.mark.parametrize("wrong", [b"", b"no image", b"%PDF-1.4"])
def test_a_row_that_is_no_image_is_named(session, object_photos, wrong):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image_bytes\[1\]: not an image; one of JPEG, PNG"):
        session([object_photos[0][0], wrong])


def test_a_truncated_photo_is_an_invalid_argument(session, object_photos):
    with pytest.raises(tf.errors.InvalidArgumentError):
        session([object_photos[0][2][:200]])


def test_the_other_signatures_are_those_of_every_export(session, object_photos):
    found = session(object_photos[0], "serving_default")
    assert list(found) == ["descriptors"]
    np.testing.assert_allclose(found["descriptors"], session(object_photos[0])["descriptors"], atol=1e-6)
    others = {"serving_default", "query", "images", "delg", "card"}
    assert others | {"objects"} <= set(session.graph.signature_def)


def test_boxes_are_in_pixels_of_the_upright_photo(session, object_photos):
    """A photo as a camera stores it, lying on its side, and the same upright."""
    upright = Image.open(io.BytesIO(object_photos[0][5]))
    lying, marked = upright.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    marked[0x112] = 6
    buffers = io.BytesIO(), io.BytesIO()
    upright.save(buffers[0], "PNG")
    lying.save(buffers[1], "PNG", exif=marked)
    found = session([buffer.getvalue() for buffer in buffers])
    assert found["count"][0] > 0
    for name, values in found.items():
        np.testing.assert_array_equal(values[0], values[1], err_msg=name)


def test_the_signature_tells_what_may_be_left_out(session):
    known = session.graph.signature_def["objects"]
    assert known.method_name == "tensorflow/serving/predict"
    assert {name: tf.make_ndarray(value).item() for name, value in known.defaults.items()} == {
        "least_score": np.float32(LEAST_SCORE),
        "overlap": np.float32(OVERLAP),
    }
    assert set(known.inputs) == {"image_bytes", "least_score", "overlap"}
    assert not session.graph.signature_def["serving_default"].defaults


def test_saved_graph_has_standard_ops_only(object_base):
    saved = saved_model_pb2.SavedModel.FromString((object_base / "1" / "saved_model.pb").read_bytes())
    library = saved.meta_graphs[0].graph_def.library
    used = {node.op for function in library.function for node in function.node_def}
    used -= {function.signature.name for function in library.function}
    assert "CombinedNonMaxSuppression" in used
    assert all(op_def_registry.get(name) is not None and "PyFunc" not in name for name in used)


def test_memory_is_bounded_by_padded_photos_and_crops(guided_run):
    served = ServedObjects(guided_run.load_model(), 48, "{}", ("a", "b", "c"), ObjectSettings(objects_most=9))
    crops = 10 * 3 * 3 * 16  # ten boxes, the whole photo's one of them, of 3 x 3 positions
    for (height, width), padded in {(1, 1): 32 * 32, (32, 33): 32 * 64, (48, 20): 64 * 32}.items():
        assert int(served._cost(tf.constant(height), tf.constant(width))) == padded + crops


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"objects_most": 0}, "--objects_most=0; 1 or more"),
        ({"objects_least_score": 1.1}, r"--objects_least_score=1\.1; a share from 0 to 1"),
        ({"objects_overlap": math.nan}, "--objects_overlap=nan; a share from 0 to 1"),
    ],
)
def test_settings_out_of_range_are_refused_by_their_flag(setting, told):
    with pytest.raises(InputError, match=told):
        ObjectSettings(**setting)
