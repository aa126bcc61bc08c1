import numpy as np
import pytest

from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.evaluation.evaluate import evaluate
from tfretrieval.evaluation.index_comparison import (
    COMPRESSION,
    USUAL,
    Judged,
    bytes_chart,
    compare_indexes,
    factories,
    speed_chart,
)
from tfretrieval.evaluation.index_evaluation import evaluate_found, index_ranking
from tfretrieval.evaluation.protocols import PROTOCOLS
from tfretrieval.evaluation.relevance import Relevance
from tfretrieval.evaluation.trade_chart import byte_ticks, rate_ticks, share_ticks
from tfretrieval.search import index as indexes
from tfretrieval.search import index_tuning
from tfretrieval.search.index import SearchIndex
from tfretrieval.search.index_factory import IndexOptions
from tfretrieval.search.index_tuning import KnownNeighbours
from tfretrieval.search.ranking import Ranking

pytest.importorskip("faiss")

PROTOCOL = PROTOCOLS["instances"]


@pytest.fixture(scope="module")
def photos():
    """240 photos of 40 instances, and a query of each instance."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 16))
    labels = rng.permutation(np.repeat(np.arange(40), 6))
    made = [centres[own] + 0.7 * rng.standard_normal((len(own), 16)) for own in (np.arange(40), labels)]
    queries, database = ((each / np.linalg.norm(each, axis=1, keepdims=True)).astype(np.float32) for each in made)
    return queries, database, {"all": Relevance.by_instance(np.arange(40), labels, np.full(40, -1))}


def build(folder, vectors, factory, ids=None):
    folder.mkdir()
    ids = tuple(f"p{row}" for row in range(len(vectors))) if ids is None else ids
    indexes.build(folder, Descriptors(vectors, ids), IndexOptions(factory), {})
    return SearchIndex.load(folder)


def test_an_exact_index_of_photos_in_another_order_gives_the_exact_measures(photos, tmp_path):
    queries, database, relevances = photos
    order = np.random.default_rng(1).permutation(len(database))
    ids = [f"p{row}" for row in range(len(database))]
    index = build(tmp_path / "index", database[order], "IVF4,Flat", tuple(ids[row] for row in order))
    index.use({"nprobe": 4})
    ranking = index_ranking(index, queries, ids, len(database))
    found, exact = evaluate_found(ranking, relevances, PROTOCOL), evaluate(queries, database, relevances["all"])
    np.testing.assert_allclose(found.ap, exact.ap)
    assert found.recall_at == exact.recall_at
    np.testing.assert_array_equal(found.top.order, exact.top.order)


def test_photos_of_no_similarity_count_as_not_found():
    relevance = {"all": Relevance.by_instance(np.array([1]), np.array([0, 1, 0, 1, 1, 1]), np.array([-1]))}
    order = np.array([[0, 1, 3, 2, 4, 5]], np.int32)
    whole = Ranking(order, np.array([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4]], np.float32))
    cut = Ranking(order, np.array([[0.9, 0.8, 0.7, 0.6, -np.inf, -np.inf]], np.float32))
    assert evaluate_found(whole, relevance, PROTOCOL).map == pytest.approx((1 / 2 + 2 / 3 + 3 / 5 + 4 / 6) / 4)
    assert evaluate_found(cut, relevance, PROTOCOL).map == pytest.approx((1 / 2 + 2 / 3) / 4)


def test_an_index_of_other_photos_is_one_sentence(photos, tmp_path):
    index = build(tmp_path / "index", photos[1], "Flat")
    ids = [f"p{row}" for row in range(len(photos[1]))]
    for wanted, words in (
        ([*ids, "x"], "lacks 1 of the database's 241 .'x'"),
        (ids[:-1], "lacks 0 of the database's 239 .'p239'"),
    ):
        with pytest.raises(InputError, match=words):
            index_ranking(index, photos[0], wanted, 10)


def test_indexes_are_compared_by_recall_speed_bytes_and_map(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(index_tuning, "_TIMED_SECONDS", 1e-9)
    queries, database, relevances = photos
    descriptors = Descriptors(database, tuple(f"p{row}" for row in range(len(database))))
    known = KnownNeighbours.of_queries(queries, database, 5)
    judged = Judged(queries, relevances, PROTOCOL, 1000)
    names = ("Flat", "SQ8", "IVF8,PQ8x4", "HNSW8")
    result = compare_indexes(names, descriptors, known, 0.9, IndexOptions(), tmp_path, judged)
    assert not list(tmp_path.iterdir())
    assert result["map_exact"] == pytest.approx(evaluate(queries, database, relevances["all"]).map, abs=1e-4)
    assert (result["k"], result["depth"], result["queries"]) == (5, 240, {"chosen_by": 20, "held_out": 20})
    flat, int8, coded, graph = result["indexes"]
    assert [row["factory"] for row in result["indexes"]] == list(names)
    assert (flat["bytes_per_photo"], int8["bytes_per_photo"], coded["bytes_per_photo"]) == (64, 16, 12)
    assert graph["bytes_per_photo"] > 64 + 2 * 8 * 4
    assert (flat["recall"], flat["map_loss"], flat["parameters"], flat["reached"]) == (1, 0, {}, True)
    assert int8["recall"] > 0.9 > coded["recall"] and abs(int8["map_loss"]) < 0.02 < coded["map_loss"]
    assert not coded["reached"] and coded["parameters"] == coded["points"][-1]["parameters"]
    for chart in (speed_chart(result), bytes_chart(result)):
        assert chart.startswith("<svg xmlns=") and all(name in chart for name in names)
        assert "nan" not in chart and chart.count("<circle") >= 2 * len(names)


@pytest.mark.parametrize("dimension", [8, 16, 20, 512, 1280])
def test_named_comparisons_are_made_of_indexes_that_faiss_has(dimension):
    for text in (COMPRESSION, USUAL):
        names = factories(text, dimension, 100_000)
        assert names[0] == "Flat" and len(names) >= 5
    assert "IVF256,Flat" in names
    assert factories(" Flat | IVF4,PQ2x4 ", dimension, 9) == ("Flat", "IVF4,PQ2x4")


def test_wrong_comparisons_are_one_sentence(photos, tmp_path):
    for text, words in (
        ("Flat | Flat", "'Flat' twice"),
        ("Flat | Bogus", "--factory=Bogus"),
        ("", "--factory= is not"),
    ):
        with pytest.raises(InputError, match=words):
            factories(text, 16, 100)
    known = KnownNeighbours.of_queries(photos[0], photos[1], 5)
    with pytest.raises(InputError, match="--recall_target=2"):
        compare_indexes(
            ("Flat",), Descriptors(photos[1], tuple(map(str, range(240)))), known, 2, IndexOptions(), tmp_path
        )


@pytest.mark.parametrize(("low", "high"), [(3, 3), (0.4, 17), (170, 9000), (1, 1e6), (5000, 5000)])
def test_ticks_lie_around_all_values(low, high):
    for ticks in (rate_ticks(low, high), byte_ticks(low, high)):
        values = [value for value, _ in ticks]
        assert values[0] <= low and high <= values[-1] and len(values) >= 2 and values == sorted(set(values))
    for least, most in ((0.0, 1.0), (0.31, 1.0), (0.995, 1.0), (1.0, 1.0), (0.70, 0.76), (0.5, 0.5), (0.0, 0.0)):
        values = [value for value, _ in share_ticks(least, most)]
        assert values[0] <= least + 1e-9 and values[-1] >= most - 1e-9 and 2 <= len(values) <= 9
