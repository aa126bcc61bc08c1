import numpy as np
import pytest

from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.errors import InputError
from tfretrieval.evaluation.album import Photos
from tfretrieval.evaluation.evaluate import evaluate_conditions, evaluate_rankings
from tfretrieval.evaluation.protocols import PROTOCOLS
from tfretrieval.evaluation.reranked import AFTER, BEFORE, candidate_places, evaluate_reranked, photo_context
from tfretrieval.search.candidates import Candidates
from tfretrieval.search.reranking import parse_chain

REVISITED = PROTOCOLS["revisited"]


@pytest.fixture(scope="module")
def benchmark():
    """Queries, database and judgements: 6 of each kind for a query, most of them near it."""
    rng = np.random.default_rng(0)
    database = rng.normal(size=(240, 12)).astype(np.float32)
    database /= np.linalg.norm(database, axis=1, keepdims=True)
    judgements, queries = [], []
    for _ in range(5):
        rows = rng.permutation(240)[:18].tolist()
        judgements.append(QueryJudgement(tuple(rows[:6]), tuple(rows[6:12]), tuple(rows[12:])))
        query = database[rows].sum(axis=0) + rng.normal(size=12)
        queries.append(query / np.linalg.norm(query))
    return np.array(queries, np.float32), database, judgements


@pytest.mark.parametrize("text", ["aqe:k=5,alpha=3", "kreciprocal:k1=6,k2=2,top=20", "dba:k=3 | qe:k=4"])
def test_measures_are_those_of_the_full_rankings(benchmark, text):
    queries, database, judgements = benchmark
    relevances, chain = REVISITED.relevances(judgements, 240), parse_chain(text)
    after = evaluate_reranked(chain, queries, database, relevances, REVISITED, AFTER)
    expected = evaluate_rankings(chain.rerank(queries, database), relevances, REVISITED)
    before = evaluate_reranked(chain, queries, database, relevances, REVISITED, BEFORE)
    rankings = {
        name: chain.rerank(queries, database, [one.rows(query)[1] for query in range(5)])
        for name, one in relevances.items()
    }
    each = evaluate_rankings(rankings, relevances, REVISITED)
    for found, wanted in ((after, expected), (before, each)):
        for name, condition in wanted.conditions.items():
            np.testing.assert_allclose(found.conditions[name].ap, condition.ap, atol=1e-12)
            assert found.conditions[name].figures == pytest.approx(condition.figures)
        np.testing.assert_array_equal(found.top.order, wanted.top.order)
        np.testing.assert_array_equal(found.top_is_relevant, wanted.top_is_relevant)
    plain = evaluate_conditions(queries, database, relevances, REVISITED)
    assert after.conditions["medium"].map != plain.conditions["medium"].map


def test_rows_behind_the_candidates_stand_where_the_full_ranking_has_them(benchmark):
    queries, database, _ = benchmark
    candidates = Candidates.search(queries, database, 15)
    turned = candidates.reordered([own[:7] for own in candidates.ranking.order], [np.arange(7)] * 5)
    rows = [np.arange(240)] * 5
    found = candidate_places(turned, rows)
    full = Candidates.search(queries, database, 240).ranking.order
    for query in range(5):
        order = full[query].tolist()
        order = [*order[:7][::-1], *order[7:]]
        assert found.places[query].tolist() == [order.index(row) for row in range(240)]


def test_another_time_for_junk_is_refused(benchmark):
    queries, database, judgements = benchmark
    with pytest.raises(ValueError, match="'during'; 'before' or 'after' is wanted"):
        evaluate_reranked(
            parse_chain("qe"), queries, database, REVISITED.relevances(judgements, 240), REVISITED, "during"
        )


def test_photos_are_read_with_queries_cut_to_their_box():
    import io

    from PIL import Image

    image = Image.new("RGB", (20, 10))
    image.paste((255, 255, 255), (10, 0, 20, 10))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    whole = Photos(("a",), ("",), lambda row: buffer.getvalue())
    half = Photos(("a",), ("",), lambda row: buffer.getvalue(), boxes=[(0.5, 0, 1, 1)])
    context = photo_context(half, whole)
    assert context.query_photo(0).shape == (10, 10, 3)
    assert (context.query_photo(0) == 255).all()
    assert context.database_photo(0).shape == (10, 20, 3)
    with pytest.raises(InputError, match="'a' is not at hand"):
        photo_context(Photos(("a",), ("",), lambda row: None), whole).query_photo(0)
