import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.data.augmentation import NO_AUGMENTATION
from tfretrieval.data.detection_views import ViewConfig
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.models.detector import DetectorConfig, build_detector
from tfretrieval.models.guided import BranchConfig, GuidedObjectEmbedder
from tfretrieval.object_descriptors import ObjectBoxes
from tfretrieval.object_extraction import ObjectExtractor
from tfretrieval.training.detector import finder
from tfretrieval.training.detector_config import DetectorTraining
from tfretrieval.training.guided import Guidance, ObjectTeacher
from tfretrieval.training.head_start import begin_branch_at_teacher
from tfretrieval.training.train_objects import ObjectData, train_detector, train_guided

VIEWS = ViewConfig(mosaic=0.0, least_zoom=1.0, largest_zoom=1.0)
BRANCH = BranchConfig(branch_size=3, branch_layers=1, branch_width=32)


def config(**settings):
    return DetectorTraining(**{"size": 96, "epochs": 1, "batch": 4, "warmup": 1, "average": 0.0, **settings})


@pytest.fixture(scope="module")
def trained(object_set, tmp_path_factory):
    output = tmp_path_factory.mktemp("guided") / "detector"
    detector = DetectorConfig("mobilenet_v2_0.35", min_level=3, max_level=5, head_layers=0)
    data = ObjectData.of(object_set, None)
    return train_detector(data, output, detector, config(), VIEWS, NO_AUGMENTATION, {})[0]


@pytest.fixture(scope="module")
def teacher(object_set, tmp_path_factory):
    """A teacher that tells classes apart: 5 dimensions, one direction for each class."""
    split = object_set.split("train")
    ids = tuple(f"{split.ids[row]}#{n}" for row, n in zip(split.objects.rows(), split.objects.numbers, strict=True))
    vectors = np.eye(5, dtype=np.float32)[split.objects.classes]
    path = tmp_path_factory.mktemp("guided") / "teacher"
    Descriptors(vectors, ids, {}).save(path)
    return path


def guide(object_set, trained, teacher, output, guidance, resume=False, **settings):
    return train_guided(
        ObjectData.of(object_set, None), output, trained, BRANCH, teacher, config(**settings), guidance, VIEWS,
        NO_AUGMENTATION, {}, resume,
    )  # fmt: skip


@pytest.mark.slow
def test_a_frozen_detectors_boxes_stay_bit_identical_while_the_branch_learns(object_set, trained, teacher, tmp_path):
    guidance = Guidance("regress_l2", freeze_detector=True)
    run, history = guide(object_set, trained, teacher, tmp_path / "run", guidance, epochs=8, learning_rate=3e-3)
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    model, before = run.load_model("last"), trained.load_model()
    photos = tf.constant(np.random.default_rng(0).integers(0, 255, (2, 50, 90, 3)), tf.uint8)
    found, expected = finder(model.detector, 9, 0.0)(photos), finder(before, 9, 0.0)(photos)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    described = model.find_and_describe(photos, 9, 0.0)
    for name, value in expected.items():
        np.testing.assert_allclose(described[name], value, atol=1e-5)
    assert described["object_descriptors"].shape == (2, 9, 5) and described["descriptors"].shape == (2, 5)


@pytest.mark.slow
def test_detector_and_branch_learn_together_and_resume(object_set, trained, teacher, tmp_path):
    guidance = Guidance("regress_l2+contrast_to_teacher", "1+0.1")
    whole, history = guide(object_set, trained, teacher, tmp_path / "whole", guidance, epochs=2)
    guide_once = {"epochs": 2}
    assert len(history) == 2
    again, same = guide(object_set, trained, teacher, tmp_path / "whole", guidance, resume=True, **guide_once)
    assert same == history
    before = trained.load_model().classification_head.prediction_layer.kernel
    after = again.load_model("last").detector.classification_head.prediction_layer.kernel
    assert np.abs(np.asarray(after) - np.asarray(before)).max() > 0
    assert whole.path == again.path


@pytest.fixture(scope="module")
def untrained():
    return build_detector(DetectorConfig("mobilenet_v2_0.35", min_level=3, max_level=5, head_layers=0), 5)


def shares(object_set, detector, vectors, **settings):
    """Returns the mean cosine between branch and teacher before and after the branch is begun in closed form."""
    split = object_set.split("train")
    branch = BranchConfig(dimension=vectors.shape[1], branch_size=3, branch_layers=0)
    model = GuidedObjectEmbedder(detector, branch)
    boxes = ObjectBoxes.annotated(split.objects, ("a", "b", "c", "d", "e"))
    cosine = lambda: (ObjectExtractor(model, 96).describe(split, boxes).vectors * vectors).sum(axis=1).mean()  # noqa: E731
    before = cosine()
    known = np.ones(len(vectors), bool)
    begin_branch_at_teacher(model, ObjectTeacher(vectors, known), split, 96, **settings)
    return before, cosine(), model


def pooled_crops(object_set, detector):
    """Returns what a branch without convolutions pools, of length 1: its linear layer begins as the identity."""
    split = object_set.split("train")
    model = GuidedObjectEmbedder(detector, BranchConfig(dimension=256, branch_size=3, branch_layers=0))
    boxes = ObjectBoxes.annotated(split.objects, ("a", "b", "c", "d", "e"))
    return ObjectExtractor(model, 96).describe(split, boxes).vectors


def test_a_branch_begins_where_a_ridge_regression_ends(object_set, untrained, tmp_path):
    split = object_set.split("train")
    vectors = np.eye(5, dtype=np.float32)[split.objects.classes]
    before, after, model = shares(object_set, untrained, vectors, ridge=1e-3, kept=tmp_path / "start.npz")
    assert after > before
    kernel, bias = model.head.get_layer("linear").get_weights()
    _, again, other = shares(object_set, untrained, vectors, ridge=1e-3, kept=tmp_path / "start.npz")
    assert again == pytest.approx(after, abs=1e-5)  # read from where it was kept
    np.testing.assert_array_equal(other.head.get_layer("linear").get_weights()[0], kernel)
    own = pooled_crops(object_set, untrained).astype(np.float64)
    wanted = np.linalg.solve(own.T @ own + 1e-3 * np.eye(256), own.T @ vectors)  # rows of own are of length 1
    np.testing.assert_allclose(kernel, wanted, atol=1e-3 * np.abs(wanted).max())
    assert not bias.any()


def test_a_branch_as_wide_as_its_teacher_is_drawn_towards_its_own_pooling(object_set, untrained, tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(object_set.split("train").objects.classes), 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    *_, model = shares(object_set, untrained, vectors, ridge=1e6, kept=tmp_path / "start.npz")
    np.testing.assert_allclose(model.head.get_layer("linear").get_weights()[0], np.eye(256), atol=1e-5)


def test_a_branch_with_convolutions_has_no_closed_form(object_set, untrained, tmp_path):
    model = GuidedObjectEmbedder(untrained, BRANCH)
    with pytest.raises(InputError, match="--branch_layers=1; --branch_layers=0 is wanted"):
        begin_branch_at_teacher(model, None, object_set.split("train"), 96, 1.0, tmp_path / "start.npz")


def test_objects_without_a_teacher_are_named_and_counted(object_set, teacher):
    split, crops = object_set.split("train"), Descriptors.load(teacher)
    fewer = Descriptors(np.array(crops.vectors[2:]), crops.ids[2:], {})
    with pytest.raises(InputError, match=f"lacks 2 of the 18 objects of the split 'train', first '{crops.ids[0]}'"):
        ObjectTeacher.of_crops(fewer, split)
    found = ObjectTeacher.of_crops(fewer, split, allow_missing=True)
    assert found.known.tolist() == [False] * 2 + [True] * 16 and not found.vectors[:2].any()
    np.testing.assert_array_equal(found.vectors[2:], crops.vectors[2:])
    with pytest.raises(InputError, match="lacks 18 of the 18 objects"):
        ObjectTeacher.of_crops(Descriptors(np.ones((1, 5), np.float32), ("other#0",), {}), split, allow_missing=True)


@pytest.mark.slow
def test_classes_of_another_detector_are_refused(object_set, trained, teacher, tmp_path):
    with pytest.raises(InputError, match="and this training has the classes \\['object'\\]; the same are wanted"):
        guide(object_set, trained, teacher, tmp_path / "run", Guidance(), classes_merged=True)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"guidance_weight": 0.0}, "--guidance_weight=0.0"),
        ({"branch_ridge": -1.0}, "--branch_ridge=-1.0"),
        ({"distill": "other"}, "--distill=other is unknown"),
    ],
)
def test_guidance_out_of_range_is_one_sentence(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        Guidance(**settings)
