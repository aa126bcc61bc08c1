import math

import numpy as np
import pytest

from tfretrieval.evaluation import counting
from tfretrieval.evaluation.evaluate import evaluate, evaluate_rankings, leave_one_out
from tfretrieval.evaluation.relevance import Relevance, own_rows
from tfretrieval.search.ranking import Ranking, exact_ranking


def loop(queries, database, relevant, junk):
    """The definitions again: (AP, first relevant rank) of each query, similarities ranked by a stable Python sort."""
    found = []
    for query, right, left_out in zip(queries, relevant, junk, strict=True):
        scores = [float(np.dot(query, row)) for row in database]
        order = sorted(range(len(database)), key=lambda row: -scores[row])
        order = [row for row in order if row not in left_out]
        wanted = set(right) - set(left_out)
        hits, total, first = 0, 0.0, 0
        for place, row in enumerate(order, 1):
            if row in wanted:
                hits += 1
                total += hits / place
                first = first or place
        found.append((total / len(wanted) if wanted else math.nan, first))
    ap, first = zip(*found, strict=True)
    return np.array(ap), np.array(first)


def small_integers(rng, *shape):
    """Vectors whose dot products are exact and often equal."""
    return rng.integers(-1, 2, shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(100))
def test_equals_an_explicit_loop_on_random_rankings_with_ties(seed):
    rng = np.random.default_rng(seed)
    queries, database = small_integers(rng, 6, 3), small_integers(rng, 25, 3)
    relevant = tuple(rng.permutation(25)[: rng.integers(0, 12)] for _ in queries)
    junk = tuple(rng.permutation(25)[: rng.integers(0, 6)] for _ in queries)
    relevant = (np.array([7]), *relevant[1:])
    junk = (np.array([3]), *junk[1:])
    found = evaluate(queries, database, Relevance("instance", 25, relevant, junk))
    ap, first = loop(queries, database, relevant, junk)
    np.testing.assert_allclose(found.ap, ap, rtol=1e-12)
    np.testing.assert_array_equal(found.first_relevant_rank, first)
    assert found.map == pytest.approx(np.nanmean(ap))
    measured = first[~np.isnan(ap)]
    for k in (1, 5, 10):
        assert found.recall_at[k] == pytest.approx(np.mean([1 <= rank <= k for rank in measured]))


@pytest.mark.parametrize("seed", range(5))
def test_leave_one_out_equals_a_loop(seed):
    rng = np.random.default_rng(seed)
    vectors, labels = small_integers(rng, 30, 4), rng.integers(0, 8, 30)
    relevant = [np.flatnonzero(labels == label) for label in labels]
    ap, first = loop(vectors, vectors, relevant, [[row] for row in range(30)])
    found = leave_one_out(vectors, labels)
    np.testing.assert_allclose(found.ap, ap, rtol=1e-12)
    np.testing.assert_array_equal(found.first_relevant_rank, first)
    assert not (found.top.order == np.arange(30)[:, None]).any()


def test_ties_keep_the_order_of_the_database():
    same = np.ones((4, 1), np.float32)
    found = evaluate(same[:1], same, Relevance.by_instance(np.array([1]), np.array([0, 0, 1, 1])))
    assert found.top.order[0].tolist() == [0, 1, 2, 3]
    assert found.ap[0] == pytest.approx((1 / 3 + 2 / 4) / 2)


def test_the_query_itself_is_left_out_by_its_photo_id():
    own = own_rows(("a", "z"), ("b", "a", "c"))
    assert own.tolist() == [1, -1]
    vectors = np.eye(3, dtype=np.float32)
    queries = np.stack([vectors[1], vectors[0]])
    found = evaluate(queries, vectors, Relevance.by_instance(np.array([5, 5]), np.array([4, 5, 5]), own))
    assert found.relevant.tolist() == [1, 2]
    assert 1 not in found.top.order[0]
    assert found.ap[0] == 0.5  # rows 0 and 2 tie behind the query itself; row 2 is the relevant one


def test_junk_before_a_relevant_photo_does_not_push_it_down():
    ranking = Ranking(np.array([[0, 1, 2, 3]], np.int32), np.array([[4, 3, 2, 1]], np.float32))
    relevance = Relevance("instance", 4, (np.array([1, 3]),), (np.array([0, 2]),))
    found = evaluate_rankings(ranking, relevance)
    assert found.ap[0] == 1.0
    assert found.top.order.tolist() == [[1, 3]]
    assert found.top.similarity.tolist() == [[3, 1]]
    assert found.top_is_relevant.all()


def test_a_row_that_is_relevant_and_junk_is_junk():
    relevance = Relevance("instance", 3, (np.array([0, 1]),), (np.array([0]),))
    relevant, junk = relevance.masks(0)
    assert relevant.tolist() == [False, True, False]
    assert junk.tolist() == [True, False, False]


def test_queries_without_relevant_photos_are_counted_and_left_out_of_the_means():
    vectors = np.eye(3, dtype=np.float32)
    found = evaluate(vectors[:2], vectors, Relevance.by_instance(np.array([0, 9]), np.array([0, 1, 1])))
    assert found.queries == 2
    assert found.queries_without_relevant == 1
    assert math.isnan(found.ap[1])
    assert (found.map, found.recall_at[1]) == (1.0, 1.0)
    assert found.worst_first().tolist() == [0]


def test_nothing_relevant_anywhere_gives_undefined_means():
    vectors = np.eye(2, dtype=np.float32)
    found = leave_one_out(vectors, np.array([0, 1]))
    assert math.isnan(found.map)
    assert math.isnan(found.recall_at[1])


def test_a_truncated_ranking_divides_by_all_relevant_photos():
    order = np.arange(10, dtype=np.int32)[None]
    ranking = Ranking(order, -order.astype(np.float32))
    relevance = Relevance("instance", 50, (np.array([1, 3, 6, 40]),), (np.array([], int),))
    assert evaluate_rankings(ranking, relevance).ap[0] == pytest.approx(0.357142857)


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    queries, database = small_integers(rng, 23, 5), small_integers(rng, 40, 5)
    own = np.where(np.arange(23) % 3, -1, np.arange(23))
    relevance = Relevance.by_instance(rng.integers(0, 6, 23), rng.integers(0, 6, 40), own)
    whole = evaluate(queries, database, relevance)
    for name, value in (("_ROWS_AT_A_TIME", 7), ("_QUERIES_AT_A_TIME", 5), ("_KEPT_SIMILARITIES", 60)):
        monkeypatch.setattr(counting, name, value)
    chunked = evaluate(queries, database, relevance)
    ranked = evaluate_rankings(exact_ranking(queries, database), relevance)
    for other in (chunked, ranked):
        np.testing.assert_array_equal(whole.ap, other.ap)
        np.testing.assert_array_equal(whole.top.order, other.top.order)
        np.testing.assert_array_equal(whole.precision_at_shares, other.precision_at_shares)


def test_the_recall_curve_holds_recall_at_k():
    rng = np.random.default_rng(4)
    found = leave_one_out(small_integers(rng, 40, 6), rng.integers(0, 8, 40))
    curve = found.recall_curve()
    assert len(curve) == 40
    assert [curve[k - 1] for k in (1, 5, 10)] == list(found.recall_at.values())
    assert (np.diff(curve) >= 0).all()


def test_shapes_that_do_not_belong_together_are_refused():
    vectors = np.eye(3, dtype=np.float32)
    relevance = Relevance.by_instance(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="must be"):
        evaluate(vectors, vectors[:, :2], relevance)
    with pytest.raises(ValueError, match="do not fit"):
        evaluate(vectors[:2], vectors, relevance)
    with pytest.raises(ValueError, match="no query"):
        evaluate(vectors[:0], vectors, Relevance.by_instance(np.zeros(0), np.zeros(3)))
    with pytest.raises(ValueError, match="leave the database"):
        Relevance("instance", 3, (np.array([3]),), (np.array([], int),))
