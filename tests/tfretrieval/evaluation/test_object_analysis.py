import dataclasses
import itertools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.data import records
from tfretrieval.data.object_index import SplitObjects
from tfretrieval.errors import InputError
from tfretrieval.evaluation import object_analysis
from tfretrieval.evaluation.object_analysis import (
    METHODS,
    PASSES,
    TIMED_OBJECTS,
    AnalysisOptions,
    MethodResult,
    ObjectAnalysis,
    median_milliseconds,
    passes_of,
    trunk_descriptor,
)
from tfretrieval.evaluation.object_findings import findings
from tfretrieval.layers.roi_align import roi_align
from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor
from tfretrieval.models.objects import from_descriptor
from tfretrieval.object_extraction import ANNOTATED, FOUND

# Nothing is enlarged and photos have 64 x 96 pixels, so that whole photos and crops come in their own size.
ANNOTATED_OPTIONS = AnalysisOptions(ANNOTATED, image_size=96, crop_size=64)
FOUND_OPTIONS = AnalysisOptions(FOUND, image_size=96, crop_size=96, most_objects=4, least_score=0.5)
# (photo, place of the object) of the queries: neither the difficult coin nor the crowd of coins is one.
QUERIES = [("shared", 0), ("shared", 1), ("second", 0), ("third", 0)]
RIGHT = [{"both", "coin"}, {"both", "key"}, {"doubtful", "stamps"}, {"both", "key", "shared"}]
JUNK = [{"shared"}, {"shared", "doubtful"}, set(), {"doubtful"}]
DATABASE = ["both", "coin", "doubtful", "empty", "key", "shared", "stamps"]


@pytest.fixture(scope="module")
def student(guided_run):
    return guided_run.load_model()


@pytest.fixture(scope="module")
def classifier():
    keras.utils.set_random_seed(1)
    return build_descriptor(DescriptorConfig(backbone="small_resnet"))


@pytest.fixture(scope="module")
def splits(object_benchmark):
    return object_benchmark.split("queries"), object_benchmark.split("database")


def pixels(split, name):
    encoded = records.decode_record(split.read(split.ids.index(name))).photo.encoded
    return tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()


def boxes_of(split, name):
    row = split.ids.index(name)
    return split.objects.boxes[split.objects.offsets[row] : split.objects.offsets[row + 1]]


def crop(photo, box):
    top, left, bottom, right = box * np.tile(photo.shape[:2], 2)
    y, x = min(int(top + 1e-3), len(photo) - 1), min(int(left + 1e-3), photo.shape[1] - 1)
    return photo[y : max(int(np.ceil(bottom - 1e-3)), y + 1), x : max(int(np.ceil(right - 1e-3)), x + 1)]


class Truth:
    """The methods written again, one photo and one object at a time."""

    def __init__(self, classifier, student):
        self.classifier, self.student = classifier, student
        self.attention = from_descriptor(classifier)

    def whole(self, method, photo):
        if method == "a":
            return self.classifier(photo[None])[0].numpy()
        # (b): the trunk on scaled pixels, edges repeated up to 32, and GeM with p = 3 written out.
        height, width = photo.shape[:2]
        large = np.pad(photo, ((0, max(0, 32 - height)), (0, max(0, 32 - width)), (0, 0)), mode="edge")
        encoder = self.student.detector.backbone.image_encoder
        maps = encoder.trunk([large[None].astype(np.float32) / 127.5 - 1])[-1].numpy()[0].astype(np.float64)
        pooled = np.mean(np.maximum(maps, 1e-6) ** 3, axis=(0, 1)) ** (1 / 3)
        return pooled / np.linalg.norm(pooled)

    def part(self, method, photo, box):
        if method in "abc":
            return self.whole("b" if method == "b" else "a", crop(photo, box))
        inputs = {"photos": photo[None].astype(np.float32), "boxes": box[None, None], "valid": np.ones((1, 1), bool)}
        if method == "d":
            return self.attention(inputs)["object_descriptors"][0, 0].numpy()
        if method == "f":
            return self.student(inputs)["object_descriptors"][0, 0].numpy()
        _, maps = self.student.features(inputs["photos"])  # 64 x 96: nothing is padded
        mean = np.mean(roi_align(maps["pyramid"]["P4"], inputs["boxes"], inputs["valid"], 7)[0, 0], axis=(0, 1))
        return mean / np.linalg.norm(mean)

    def figures(self, method, splits, boxes, queries=(0, 1, 2, 3)):
        """Returns mAP and R@1; `boxes` maps database photos to theirs."""
        parts = {}
        for photo in DATABASE:
            image = pixels(splits[1], photo)
            if method in "ab":
                parts[photo] = [self.whole(method, image)]
            else:
                parts[photo] = [self.part(method, image, box) for box in boxes[photo]]
        aps, firsts = [], []
        for query in queries:
            name, place = QUERIES[query]
            asked = self.part(method, pixels(splits[0], name), boxes_of(splits[0], name)[place])
            similarity = {
                photo: max((float(part @ asked) for part in found), default=-np.inf) for photo, found in parts.items()
            }
            ranked = sorted((name for name in DATABASE if name not in JUNK[query]), key=lambda name: -similarity[name])
            hits, precisions = 0, []
            for rank, photo in enumerate(ranked, start=1):
                if photo in RIGHT[query]:
                    hits += 1
                    precisions.append(hits / rank)
            aps.append(sum(precisions) / len(RIGHT[query]))
            firsts.append(ranked[0] in RIGHT[query])
        return np.mean(aps), np.mean(firsts)


@pytest.fixture(scope="module")
def truth(classifier, student):
    return Truth(classifier, student)


@pytest.fixture
def untimed(monkeypatch):
    monkeypatch.setattr(object_analysis, "median_milliseconds", lambda run: 1.5)


@pytest.mark.usefixtures("untimed")
def test_all_rows_are_those_of_a_loop_over_annotated_boxes(splits, classifier, student, truth):
    rows = ObjectAnalysis(*splits, ANNOTATED_OPTIONS).rows(classifier, student, ("coin", "key", "stamp"))
    assert [row.method for row in rows] == list(METHODS)
    boxes = {name: boxes_of(splits[1], name) for name in DATABASE}
    for row in rows:
        expected = truth.figures(row.method, splits, boxes)
        np.testing.assert_allclose((row.map, row.recall_at_1), expected, atol=1e-6, err_msg=row.method)
        assert (row.passes, row.milliseconds) == (PASSES[row.method], 1.5)
    assert len({row.map for row in rows}) > 2, "the photos are to tell the methods apart"


@pytest.mark.slow
@pytest.mark.usefixtures("untimed")
def test_found_boxes_are_those_of_the_students_detector(splits, classifier, student, truth):
    wanted = np.array([0, 1])  # no stamps are searched for; one query photo has no query left
    rows = ObjectAnalysis(*splits, FOUND_OPTIONS, wanted).rows(classifier, student, ("coin", "key", "stamp"))
    boxes = {}
    for name in DATABASE:
        found = student.find_and_describe(pixels(splits[1], name)[None].astype(np.float32), 4, 0.5)
        boxes[name] = found["boxes"][0, : int(found["count"][0])].numpy()
    assert sum(map(len, boxes.values())) > len(DATABASE)
    for row in rows:
        expected = truth.figures(row.method, splits, boxes, queries=(0, 1, 3))
        np.testing.assert_allclose((row.map, row.recall_at_1), expected, atol=1e-6, err_msg=row.method)


@pytest.mark.slow
@pytest.mark.usefixtures("untimed")
def test_a_detector_that_finds_nothing_leaves_the_databases_order(splits, classifier, student):
    options = dataclasses.replace(FOUND_OPTIONS, least_score=1.0)
    rows = {row.method: row for row in ObjectAnalysis(*splits, options).rows(classifier, student, ("object",))}
    # coin: 1, 2 of both, coin, ...; key: 1, 4 -> 3; stamp: 3, 7; key of third: 1, 4 -> 3 and 6 -> 5 (doubtful is junk).
    aps = [1.0, (1 + 2 / 4) / 2, (1 / 3 + 2 / 7) / 2, (1 + 2 / 4 + 3 / 5) / 3]
    for method in "cdef":
        assert rows[method].map == pytest.approx(np.mean(aps)) and rows[method].recall_at_1 == 0.75


def test_counts_say_what_is_searched_for_and_where(splits):
    counts = ObjectAnalysis(*splits, ANNOTATED_OPTIONS).counts()
    assert counts == {"queries": 4, "queries_without_relevant": 0, "query_photos": 3, "database": 7}
    analysis = ObjectAnalysis(*splits, ANNOTATED_OPTIONS, np.array([2]))
    assert analysis.counts() == {"queries": 1, "queries_without_relevant": 0, "query_photos": 1, "database": 7}
    relevant, junk = analysis.relevance.masks(0)
    assert [DATABASE[row] for row in np.flatnonzero(relevant)] == ["doubtful", "stamps"] and not junk.any()


def test_queries_with_nothing_to_find_are_counted(splits):
    queries, database = splits
    other = np.where(database.objects.classes == 2, 0, database.objects.classes).astype(np.int32)
    without = dataclasses.replace(database, objects=dataclasses.replace(database.objects, classes=other))
    assert ObjectAnalysis(queries, without, ANNOTATED_OPTIONS).counts()["queries_without_relevant"] == 1
    for classes in (np.array([2]), np.array([], int)):
        with pytest.raises(InputError, match="has a class that a database photo shows; nothing to find"):
            ObjectAnalysis(queries, without, ANNOTATED_OPTIONS, classes)


def test_photos_without_annotations_are_named(splits, record_set):
    bare = record_set.split("queries")
    for pair in ((bare, splits[1]), (splits[0], bare)):
        with pytest.raises(InputError, match="split 'queries' have no annotated objects"):
            ObjectAnalysis(*pair, ANNOTATED_OPTIONS)
    none = dataclasses.replace(splits[0], objects=SplitObjects.of_photos([[]] * len(splits[0])))
    with pytest.raises(InputError, match="nothing to find"):
        ObjectAnalysis(none, splits[1], ANNOTATED_OPTIONS)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"image_size": 31}, "--image_size=31; 32 pixels"),
        ({"crop_size": 0}, "--crop_size=0; 32 pixels"),
        ({"most_objects": 0}, "--most_objects=0; 1 or more"),
        ({"least_score": 1.5}, "--least_score=1.5; a number"),
    ],
)
def test_options_out_of_range_are_one_sentence(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        AnalysisOptions(**settings)


@pytest.mark.usefixtures("untimed")
def test_a_classifier_without_one_map_is_refused_before_anything_is_described(splits, student, monkeypatch):
    monkeypatch.setattr(ObjectAnalysis, "_boxes", lambda *given: pytest.fail("boxes were looked for first"))
    pixels = keras.Input((None, None, 3))
    other = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(pixels), name="other")
    with pytest.raises(InputError, match="the network other ends in no pooling"):
        ObjectAnalysis(*splits, ANNOTATED_OPTIONS).rows(other, student, ("coin",))


def test_passes_do_what_the_rows_are_made_of(classifier, student):
    rng = np.random.default_rng(3)
    photo = tf.constant(rng.uniform(0, 255, (1, 96, 72, 3)), tf.float32)
    crops = [tf.constant(rng.uniform(0, 255, (1, 40 + place, 36, 3)), tf.float32) for place in range(TIMED_OBJECTS)]
    done = {method: run(photo, crops) for method, run in passes_of(classifier, student).items()}
    assert list(done) == list(METHODS) == list(PASSES)
    np.testing.assert_allclose(done["a"], classifier(photo), atol=1e-5)
    assert done["b"].shape == (1, 8)
    found = student.find_and_describe(photo, TIMED_OBJECTS, 0.0)
    assert int(found["count"][0]) == TIMED_OBJECTS
    for method in "cd":
        np.testing.assert_allclose(done[method][0], found["boxes"], atol=1e-5)
    for found_crop, crop in zip(done["c"][1:], crops, strict=True):
        np.testing.assert_allclose(found_crop, classifier(crop), atol=1e-5)
    assert done["d"][1].shape == (1, TIMED_OBJECTS, classifier.output_shape[-1])
    assert done["e"].shape == (1, TIMED_OBJECTS, 256)
    np.testing.assert_allclose(done["f"], found["object_descriptors"], atol=1e-5)


def test_what_a_detector_pads_photos_with_is_not_pooled(student):
    detector = student.detector
    network, rng = trunk_descriptor(detector), np.random.default_rng(0)
    photo = rng.uniform(0, 255, (1, 33, 40, 3)).astype(np.float32)
    encoder = detector.backbone.image_encoder
    maps = encoder.trunk([photo / 127.5 - 1])[-1].numpy()
    assert maps.shape[1:3] == (2, 2)
    pooled = np.mean(np.maximum(maps, 1e-6) ** 3, axis=(1, 2)) ** (1 / 3)
    np.testing.assert_allclose(network(photo), pooled / np.linalg.norm(pooled), atol=1e-5)
    assert network(photo[:, :5, :7]).shape == (1, 8)


def test_the_median_leaves_out_two_calls(monkeypatch):
    # Calls take 100, 100, 1, 2, 9 and 4 seconds.
    ends = itertools.accumulate([0, 100, 0, 100, 0, 1, 0, 2, 0, 9], initial=0)
    times = list(ends)[1:]
    monkeypatch.setattr(object_analysis, "time", types.SimpleNamespace(perf_counter=iter(times).__next__))
    assert median_milliseconds(lambda: tf.constant(1.0), times=3) == 2000.0


def rows_of(**maps):
    return [MethodResult(method, maps[method], 0.5, PASSES[method], 1.0) for method in reversed(METHODS)]


def test_findings_that_hold():
    found = findings(rows_of(a=0.4, b=0.3, c=0.8, d=0.5, e=0.6, f=0.76))
    assert [one.verdict for one in found] == ["holds"] * 3
    assert (
        found[0].figures
        == "mAP 0.300 (b) against 0.400 (a) over whole photos, and 0.600 (e) against 0.800 (c) over objects."
    )
    assert found[1].figures == "mAP 0.500 (d) against 0.400 (a)."
    assert found[2].figures == "mAP 0.760 (f) against 0.800 (c), 95.0% of it; 95% or more counts as close."


@pytest.mark.parametrize(
    ("maps", "held"),
    [
        ({"b": 0.4}, (False, True, True)),
        ({"e": 0.8}, (False, True, True)),
        ({"d": 0.4}, (True, False, True)),
        ({"d": 0.39}, (True, False, True)),
        ({"f": 0.7599}, (True, True, False)),
        ({"c": 0.9}, (True, True, False)),
        ({"f": 0.95}, (True, True, True)),
        ({"c": 0.0, "f": 0.0}, (False, True, True)),
    ],
)
def test_findings_that_do_not_hold(maps, held):
    rows = rows_of(**{**{"a": 0.4, "b": 0.3, "c": 0.8, "d": 0.5, "e": 0.6, "f": 0.77}, **maps})
    assert tuple(one.holds for one in findings(rows)) == held
    assert [one.verdict for one in findings(rows)] == ["holds" if one else "does not hold" for one in held]
