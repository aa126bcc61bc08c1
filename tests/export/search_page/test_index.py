"""The index against loops over its vectors."""

import itertools

import numpy as np
import pytest

from export.search_page import PhotoIndex
from export.search_page.index import Hit
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.object_descriptors import ObjectBoxes, ObjectDescriptors
from tfretrieval.search.object_search import DescriptorSets


def unit(*shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def photos():
    return PhotoIndex(Descriptors(unit(9, 5), tuple("abcdefghi"), {"model_sha256": "cd"}), "index")


def objects(whole):
    """Five photos with 2, 0, 3, 1 and 0 objects."""
    offsets = np.array([0, 2, 2, 5, 6, 6], np.int64)
    boxes = np.tile(np.array([[0.1, 0.2, 0.5, 0.6]], np.float32), (6, 1)) + np.arange(6, dtype=np.float32)[:, None] / 20
    numbers = np.array([0, 1, 0, 1, 2, 0], np.int32)
    placed = ObjectBoxes(offsets, boxes, np.ones(6, np.float32), numbers % 2, numbers, ("coin", "key"))
    return ObjectDescriptors(tuple("abcde"), placed, unit(6, 4, seed=1), unit(5, 4, seed=2) if whole else None, {})


def test_photos_are_ranked_by_their_dot_products(photos):
    query = unit(1, 5, seed=9)
    found = photos.search(DescriptorSets.single(query), 4)
    scores = {row: float(np.dot(photos.set_of(row).vectors[0], query[0])) for row in range(9)}
    assert [hit.row for hit in found] == sorted(scores, key=lambda row: -scores[row])[:4]
    assert [hit.score for hit in found] == pytest.approx(sorted(scores.values(), reverse=True)[:4], abs=1e-6)
    assert {(hit.photo_object, hit.query_object) for hit in found} == {(None, None)}
    assert (photos.dimension, photos.model_sha256, photos.objects) == (5, "cd", None)
    assert photos.boxes(0).shape == (0, 4)


@pytest.mark.parametrize("k", [1, 8, 9, 50])
def test_a_photo_that_searches_is_left_out_and_its_place_filled(photos, k):
    found = photos.search(photos.set_of(3), k, without=3)
    assert 3 not in [hit.row for hit in found] and len(found) == min(k, 8)


@pytest.mark.parametrize(("whole", "mine"), [(True, 2), (True, 0), (False, 2), (False, 0)])
def test_objects_are_ranked_by_their_best_pair(whole, mine):
    index = PhotoIndex(objects(whole), "index")
    query = DescriptorSets(np.array([0, mine]), unit(mine, 4, seed=5), unit(1, 4, seed=6))
    asked = [(place, query.vectors[place]) for place in range(mine)] or [(-1, query.whole[0])]
    wanted = []
    for row, (start, stop) in enumerate(itertools.pairwise([0, 2, 2, 5, 6, 6])):
        pairs = [(place - start, index.objects.vectors[place]) for place in range(start, stop)]
        if not pairs and whole:
            pairs = [(-1, index.objects.whole[row])]
        scored = [(float(np.dot(q, p)), at, of) for of, q in asked for at, p in pairs]
        if scored:
            score, at, of = max(scored)
            wanted.append(Hit(row, pytest.approx(score, abs=1e-6), at, of))
    wanted.sort(key=lambda hit: -hit.score.expected)
    assert index.search(query, 10) == wanted
    assert len(wanted) == (5 if whole else 3)


def test_an_indexed_photo_searches_with_its_own_objects():
    index = PhotoIndex(objects(True), "index")
    found = index.search(index.set_of(2), 5, without=2)
    assert [hit.row for hit in found] == [hit.row for hit in index.search(index.set_of(2), 5) if hit.row != 2]
    np.testing.assert_array_equal(index.set_of(2).vectors, index.objects.vectors[2:5])
    np.testing.assert_array_equal(index.boxes(3), index.objects.objects.boxes[5:6])
    assert [index.class_name(2, number) for number in range(3)] == ["coin", "key", "coin"]


@pytest.mark.parametrize("kind", [lambda: objects(True), lambda: Descriptors(unit(6, 4), tuple("abcdef"))])
def test_what_is_saved_is_opened_as_what_it_is(tmp_path, kind):
    made = kind()
    made.save(tmp_path / "saved")
    index = PhotoIndex.load(tmp_path / "saved")
    assert (index.objects is not None) == isinstance(made, ObjectDescriptors)
    assert index.name == str(tmp_path / "saved") and len(index) == len(made)


def test_other_dimensions_and_nothing_at_all_are_refused(photos, tmp_path):
    for index in (photos, PhotoIndex(objects(True), "index")):
        with pytest.raises(InputError, match=r"have 7 dimensions and the database [45]"):
            index.search(DescriptorSets.single(unit(1, 7)), 3)
    with pytest.raises(InputError, match="--index=none holds no photo; some are wanted"):
        PhotoIndex(Descriptors(np.zeros((0, 4), np.float32), ()), "none")
    with pytest.raises(InputError, match="is not a directory"):
        PhotoIndex.load(tmp_path / "missing")
