import dataclasses

import numpy as np
import pytest

from tfretrieval.data.object_index import SplitObjects
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.evaluation.benchmark import Benchmark
from tfretrieval.evaluation.evaluate import evaluate, evaluate_parts
from tfretrieval.evaluation.object_evaluation import evaluate_objects, match_objects, object_notes
from tfretrieval.evaluation.relevance import Relevance
from tfretrieval.object_descriptors import ObjectBoxes, ObjectDescriptors
from tfretrieval.search.object_search import SIMILARITIES, ObjectSearch
from tfretrieval.search.ranking import exact_ranking


@pytest.fixture(scope="module")
def benchmark(record_set):
    return Benchmark.load(record_set.directory)


def unit(rng, *shape):
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def describe(split, seed, records, whole=True, scale=1.0):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 3, len(split))
    counts[:2] = 0, 2
    offsets = np.concatenate([[0], np.cumsum(counts)])
    corners = np.sort(rng.uniform(0, 1, (offsets[-1], 2, 2)), axis=1).reshape(-1, 4).astype(np.float32)
    numbers = np.concatenate([np.arange(count) for count in counts]).astype(np.int32)
    some = np.zeros(offsets[-1], np.int32)
    boxes = ObjectBoxes(offsets, corners, np.ones(len(some), np.float32), some, numbers, ("object",))
    meta = {"model_sha256": "m", "image_size": 64, "data": {"records": records}}
    vectors = unit(rng, len(some), 8) * np.float32(scale)
    return ObjectDescriptors(split.ids, boxes, vectors, unit(rng, len(split), 8) if whole else None, meta)


def saved(described, folder):
    described.save(folder)
    return folder


@pytest.fixture(scope="module")
def folder(benchmark, tmp_path_factory):
    made = tmp_path_factory.mktemp("described")
    queries, database = benchmark.queries, benchmark.database
    describe(queries, 0, benchmark.sha256).save(made / "queries")
    several = describe(database, 1, benchmark.sha256)
    several.select(np.random.default_rng(2).permutation(len(database))).save(made / "database")
    return made


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_rankings_are_measured_as_those_of_the_similarities_in_one_matrix(benchmark, folder, similarity):
    queries, database = (match_objects(benchmark, folder / name, name) for name in ("queries", "database"))
    search, relevance = ObjectSearch(similarity, 0.4), benchmark.relevance()
    found, matches = evaluate_objects(queries, database, relevance, search)
    scores = search.scores(queries.sets(), database.sets())
    # A matrix of similarities is the product of itself and unit vectors.
    expected = evaluate(scores, np.eye(len(benchmark.database), dtype=np.float32), relevance)
    assert found.map == pytest.approx(expected.map)
    np.testing.assert_array_equal(found.top.order, expected.top.order)
    assert matches.photo_object.shape == found.top.order.shape


def test_descriptors_are_taken_in_the_benchmarks_order(benchmark, folder):
    matched = match_objects(benchmark, folder / "database", "database")
    expected = describe(benchmark.database, 1, benchmark.sha256)
    assert matched.described.photos == benchmark.database.ids
    np.testing.assert_array_equal(matched.vectors, expected.vectors)
    np.testing.assert_array_equal(matched.sets().whole, expected.whole)
    assert matched.records_noted and len(matched.boxes_sha256) == 64


def test_ordinary_descriptors_and_objects_of_the_queries_ids_are_sets_of_one(benchmark, folder, tmp_path):
    regions = match_objects(benchmark, folder / "queries" / "photos", "queries")
    np.testing.assert_array_equal(regions.sets().vectors, describe(benchmark.queries, 0, "").whole)
    assert regions.described is None and regions.sets().counts().tolist() == [1, 1, 1]
    rng, count = np.random.default_rng(0), len(benchmark.queries)
    crops = dataclasses.replace(benchmark, queries=dataclasses.replace(benchmark.queries, ids=("a#0", "a#2", "b#1")))
    objects = SplitObjects.of_photos([[(0, 0, 1, 1, 0, 0, ()), (0, 0, 1, 1, 0, 2, ())], [(0, 0, 1, 1, 0, 1, ())]])
    vectors = unit(rng, count, 8)
    ObjectDescriptors(("a", "b"), ObjectBoxes.annotated(objects, ("x",)), vectors).save(tmp_path / "d")
    matched = match_objects(crops, tmp_path / "d", "queries")
    assert matched.described is None
    np.testing.assert_array_equal(matched.vectors, vectors)


def test_notes_count_photos_without_objects(benchmark, folder, tmp_path):
    queries, database = (match_objects(benchmark, folder / name, name) for name in ("queries", "database"))
    bare = int(np.sum(database.described.objects.counts() == 0))
    assert f"{bare} of 12 database photos have no object and are compared as a whole." in object_notes(
        queries, database
    )
    alone = describe(benchmark.database, 1, benchmark.sha256, whole=False)
    database = match_objects(benchmark, saved(alone, tmp_path / "d"), "database")
    assert f"{bare} of 12 database photos have no object and come last." in object_notes(queries, database)
    database = match_objects(benchmark, folder / "database" / "photos", "database")
    assert "one descriptor of each photo and no objects" in object_notes(queries, database)[-2]


def test_wrong_descriptors_are_one_sentence(benchmark, tmp_path):
    database = benchmark.database
    cases = {
        "other records": (describe(database, 1, "others"), "was extracted from the records others"),
        "too long": (describe(database, 1, benchmark.sha256, scale=2.0), f"length 2 for '{database.ids[1]}#0'"),
        "missing": (describe(database, 1, benchmark.sha256).select(np.arange(1, 12)), "lack 1 of 12 photos, first"),
    }
    for name, (described, sentence) in cases.items():
        with pytest.raises(InputError, match=sentence):
            match_objects(benchmark, saved(described, tmp_path / name), "database")
    Descriptors(np.zeros((0, 8), np.float32), ()).save(tmp_path / "empty")
    with pytest.raises(InputError, match="lack 12 of 12"):
        match_objects(benchmark, tmp_path / "empty", "database")


def test_rankings_in_parts_are_measured_as_one():
    rng = np.random.default_rng(0)
    queries, database = unit(rng, 7, 4), unit(rng, 30, 4)
    relevance = Relevance.by_instance(np.arange(7) % 3, np.arange(30) % 3, np.array([-1, 4, -1, 2, 0, -1, 9]))
    expected = evaluate(queries, database, relevance)
    parts = [exact_ranking(queries[part], database) for part in (slice(0, 2), slice(2, 3), slice(3, 7))]
    found = evaluate_parts(parts, relevance)
    for field in dataclasses.fields(expected):
        if field.name not in ("top", "conditions"):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name))
    np.testing.assert_array_equal(found.top.order, expected.top.order)
    for wrong in (parts[:2], [*parts, parts[0]]):
        with pytest.raises(ValueError, match="do not fit a relevance of 7 queries"):
            evaluate_parts(wrong, relevance)
