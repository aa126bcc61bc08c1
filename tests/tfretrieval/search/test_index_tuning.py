import types

import numpy as np
import pytest

from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.search import index as indexes
from tfretrieval.search import index_tuning
from tfretrieval.search.index import SearchIndex
from tfretrieval.search.index_factory import IndexOptions
from tfretrieval.search.index_parameters import parameter_values, parse_parameters, written
from tfretrieval.search.index_tuning import (
    KnownNeighbours,
    OperatingPoint,
    explore,
    fastest_reaching,
    frontier,
    measure,
    tune,
)
from tfretrieval.search.ranking import Ranking

pytest.importorskip("faiss")

N, D = 500, 16


@pytest.fixture(autouse=True)
def _timed_briefly(monkeypatch):
    monkeypatch.setattr(index_tuning, "_TIMED_SECONDS", 1e-9)


@pytest.fixture(scope="module")
def vectors():
    drawn = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture
def index(vectors, tmp_path):
    descriptors = Descriptors(vectors, tuple(map(str, range(N))))
    indexes.build(tmp_path, descriptors, IndexOptions("IVF16,PQ8x4,RFlat"), {})
    return SearchIndex.load(tmp_path)


def test_drawn_queries_are_photos_whose_neighbours_are_the_others(vectors):
    known = KnownNeighbours.drawn(vectors, 5, seed=3, count=40)
    assert len(set(known.own.tolist())) == 40 and known.order.shape == (40, 5)
    for query, own, order in zip(known.queries, known.own, known.order, strict=True):
        np.testing.assert_array_equal(query, vectors[own])
        scores = vectors.astype(float) @ query
        scores[own] = -2
        assert order.tolist() == np.argsort(-scores)[:5].tolist()
    again, other = (KnownNeighbours.drawn(vectors, 5, seed, count=40) for seed in (3, 4))
    assert known.own.tolist() == again.own.tolist() != other.own.tolist()


def test_recall_is_the_share_of_the_exact_best_that_were_found():
    known = KnownNeighbours(np.zeros((2, 4), np.float32), np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.int32))
    found = Ranking(np.array([[3, 2, 9, 8], [4, 5, 6, 0]], np.int32), np.zeros((2, 4), np.float32))
    assert known.recall(found) == (2 + 3) / 8
    found.similarity[0, 1:] = -np.inf  # these stand there because nothing was found
    assert known.recall(found) == (1 + 3) / 8


def test_a_querys_own_photo_is_neither_found_nor_missed():
    known = KnownNeighbours(np.zeros((2, 4), np.float32), np.array([[0, 1], [2, 3]], np.int32), np.array([8, 9]))
    assert known.asked == 3
    # The first query's own photo is found in the middle; the second's is not, so that its third place does not count.
    found = Ranking(np.array([[0, 8, 1], [2, 5, 3]], np.int32), np.zeros((2, 3), np.float32))
    assert known.recall(found) == (2 + 1) / 4


def test_halves_share_no_query(vectors):
    known = KnownNeighbours.drawn(vectors, 5, seed=0, count=41)
    one, other = known.halves(1)
    assert (len(one), len(other)) == (20, 21)
    assert sorted([*one.own, *other.own]) == known.own.tolist()
    for part in (one, other):
        np.testing.assert_array_equal(part.queries, vectors[part.own])
    with pytest.raises(InputError, match="1 queries to tune with"):
        KnownNeighbours.drawn(vectors, 5, seed=0, count=1).halves(0)


def test_the_frontier_is_what_no_other_point_beats():
    rng = np.random.default_rng(0)
    points = [OperatingPoint({"nprobe": n}, *pair) for n, pair in enumerate(rng.integers(0, 6, (60, 2)).tolist())]
    kept = frontier(points)
    for point in points:
        beaten = any(
            other.recall >= point.recall
            and other.queries_per_second >= point.queries_per_second
            and (other.recall, other.queries_per_second) != (point.recall, point.queries_per_second)
            for other in points
        )
        same = [(each.recall, each.queries_per_second) for each in kept]
        assert ((point.recall, point.queries_per_second) in same) == (not beaten)
    assert [point.recall for point in kept] == sorted(point.recall for point in kept)


def test_the_fastest_that_reaches_the_target_is_chosen():
    points = [
        OperatingPoint({"nprobe": n}, recall, speed) for n, recall, speed in ((1, 0.5, 9), (2, 0.9, 5), (4, 1, 1))
    ]
    assert fastest_reaching(points, 0.9).parameters == {"nprobe": 2}
    assert fastest_reaching(points, 0.91).parameters == {"nprobe": 4}
    assert fastest_reaching(points[:2], 0.95) is None


@pytest.mark.parametrize("target", [0.5, 0.8, 0.9, 0.97])
def test_exploring_finds_what_trying_everything_finds(target, monkeypatch):
    """Recall and seconds of a table: lists limit what can be found, refining limits how well it is ordered."""
    values = {"nprobe": [1, 2, 4, 8, 16, 32, 64], "k_factor_rf": [1, 2, 4, 8, 16]}
    tried = []

    def table(nprobe, k_factor_rf):
        recall = min(1 - 0.6 / nprobe**0.8, 1 - 0.5 / k_factor_rf**1.2)
        return recall, 1000 / (nprobe + 3 * k_factor_rf)

    index = types.SimpleNamespace(searched=None, parameters={"nprobe": 1, "k_factor_rf": 1}, now={})
    index.use = index.now.update

    def measured(index, known):
        tried.append(dict(index.now))
        return table(**index.now)

    monkeypatch.setattr(index_tuning, "parameter_values", lambda searched: values)
    monkeypatch.setattr(index_tuning, "measure", measured)
    chosen = fastest_reaching(explore(index, None, target), target)
    every = [
        OperatingPoint({"nprobe": n, "k_factor_rf": f}, *table(n, f))
        for n in values["nprobe"]
        for f in values["k_factor_rf"]
    ]
    best = fastest_reaching(every, target)
    assert (chosen.recall, chosen.queries_per_second) == (best.recall, best.queries_per_second)
    assert len(tried) < len(every)
    assert index.now == index.parameters  # left as they were


def test_parameters_are_tuned_to_a_recall_and_checked_on_other_queries(index, vectors):
    known = KnownNeighbours.drawn(vectors, 10, seed=0, count=200)
    assert measure(index, known)[0] < 0.6
    point, noted = tune(index, known, 0.9, seed=0)
    assert index.parameters == point.parameters
    assert noted["reached"] and noted["target"] == 0.9 and noted["k"] == 10
    assert noted["queries"] == {"chosen_by": 100, "held_out": 100}
    _, held_out = known.halves(0)
    found = index.search(held_out.queries, 11).order
    shares = [
        len((set(row.tolist()) - {own}) & set(exact.tolist())) / 10
        for row, own, exact in zip(found, held_out.own, held_out.order, strict=True)
    ]
    assert point.recall == pytest.approx(np.mean(shares)) and point.recall > 0.85
    assert noted["points"][0]["recall"] < noted["points"][-1]["recall"]


def test_a_recall_out_of_reach_is_told_and_the_best_is_kept(vectors, tmp_path):
    indexes.build(tmp_path, Descriptors(vectors, tuple(map(str, range(N)))), IndexOptions("IVF16,PQ4x4"), {})
    index = SearchIndex.load(tmp_path)
    point, noted = tune(index, KnownNeighbours.drawn(vectors, 10, seed=0, count=100), 0.99, seed=0)
    assert not noted["reached"] and noted["points"][-1]["parameters"] == point.parameters
    for wrong in (0, 1.1, float("nan")):
        with pytest.raises(InputError, match="--recall_target="):
            tune(index, KnownNeighbours.drawn(vectors, 10, seed=0, count=10), wrong, seed=0)


def test_kept_parameters_are_those_of_the_next_time(index, vectors, tmp_path):
    indexes.keep_parameters(tmp_path, {"nprobe": 8, "k_factor_rf": 4}, {"recall": 0.9})
    again = SearchIndex.load(tmp_path)
    assert again.parameters == {"nprobe": 8, "k_factor_rf": 4}
    assert str(again) == "IVF16,PQ8x4,RFlat (k_factor_rf=4,nprobe=8)"


def test_every_kind_of_index_has_its_own_parameters(vectors, tmp_path):
    for number, (factory, names) in enumerate(
        {
            "Flat": set(),
            "HNSW8": {"efSearch"},
            "IVF16,Flat": {"nprobe"},
            "IVF16_HNSW8,SQ8,RFlat": {"nprobe", "quantizer_efSearch", "k_factor_rf"},
            "PCAR8,HNSW8": {"efSearch"},
        }.items()
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        indexes.build(folder, Descriptors(vectors, tuple(map(str, range(N)))), IndexOptions(factory), {})
        index = SearchIndex.load(folder)
        assert parameter_values(index.searched).keys() == names == index.parameters.keys()
        assert parameter_values(index.searched).get("nprobe", [16])[-1] == 16
        index.use(dict.fromkeys(names, 7))
        assert index.parameters == dict.fromkeys(names, 7)


def test_parameters_are_read_and_written():
    assert parse_parameters("nprobe=16, k_factor_rf=4") == {"nprobe": 16, "k_factor_rf": 4}
    assert written({"nprobe": 16, "k_factor_rf": 4}) == "nprobe=16,k_factor_rf=4"
    assert parse_parameters("") == {}
    for wrong in ("nprobe", "nprobe=", "nprobe=x", "nprobe=-1", "nprobe=1,nprobe=2"):
        with pytest.raises(InputError, match="each name once"):
            parse_parameters(wrong)
