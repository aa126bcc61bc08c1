import numpy as np
import pytest
import tensorflow as tf

from export import search_index
from export.search_index import INDEXES, IndexSettings, best, recall
from tfretrieval.errors import InputError
from tfretrieval.search.ranking import exact_ranking


def unit(rows, columns, seed=0, groups=12):
    """Descriptors in groups, as those of a database's instances are."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(groups, columns))
    vectors = centres[random.integers(0, groups, rows)] + 0.5 * random.normal(size=(rows, columns))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def make(kind, vectors, **settings):
    return INDEXES[kind](vectors, IndexSettings("given", kind, **settings))


def test_exact_search_is_the_toolkits_own_ranking():
    database, queries = unit(150, 24), unit(7, 24, seed=1)
    rows, scores = best(make("exact", database), tf.constant(queries), tf.constant(20))
    truth = exact_ranking(queries, database)
    np.testing.assert_array_equal(rows, truth.order[:, :20])
    np.testing.assert_allclose(scores, truth.similarity[:, :20], atol=1e-6)


@pytest.mark.parametrize("kind", INDEXES)
def test_of_equal_scores_the_lower_row_comes_first(kind):
    one = unit(9, 16)
    database = np.concatenate([one, one, one])  # every row three times
    rows, scores = best(make(kind, database), tf.constant(one[:4]), tf.constant(27))
    for query in range(4):
        order, values = rows[query].numpy(), scores[query].numpy()
        assert sorted(order) == list(range(27))
        for place in range(26):
            assert values[place] >= values[place + 1]
            if values[place] == values[place + 1]:
                assert order[place] < order[place + 1]
        copies = [int(row) for row in order if row % 9 == order[0] % 9]
        assert copies == sorted(copies)


@pytest.mark.parametrize("kind", INDEXES)
@pytest.mark.parametrize(("k", "columns"), [(1, 1), (5, 5), (12, 12), (500, 12)])
def test_no_more_rows_than_there_are(kind, k, columns):
    database = unit(12, 16)
    rows, scores = best(make(kind, database), tf.constant(database[:3]), tf.constant(k))
    assert rows.shape == scores.shape == (3, columns)


@pytest.mark.parametrize("kind", INDEXES)
def test_no_queries_give_no_rows(kind):
    rows, scores = best(make(kind, unit(30, 16)), tf.zeros([0, 16]), tf.constant(4))
    assert rows.shape == scores.shape == (0, 4)


@pytest.mark.parametrize("block", [1, 7, 40, 1000])
def test_int8_scores_are_products_with_the_rounded_rows(block, monkeypatch):
    monkeypatch.setattr(search_index, "_ROWS_AT_A_TIME", block)
    database, queries = unit(40, 24), unit(5, 24, seed=1)
    database[3] = 0  # has no scale of its own
    found = make("int8", database).scores(tf.constant(queries)).numpy()
    for row in range(40):
        scale = max(abs(float(value)) for value in database[row]) / 127 or 1.0
        rounded = np.array([round(float(value) / scale) for value in database[row]])
        np.testing.assert_allclose(found[:, row], queries @ (rounded * scale), atol=1e-5)


@pytest.mark.parametrize(("dimension", "count"), [(24, 3), (24, 24), (26, 4), (5, 2), (24, 0)])
def test_product_codes_score_by_the_nearest_centre_of_each_part(dimension, count):
    database, queries = unit(400, dimension), unit(6, dimension, seed=1)
    index = make("pq", database, index_bytes=count)
    parts = count or max(1, dimension // 8)
    centres, codes = index._centres.numpy(), index._codes.numpy()
    assert centres.shape[:2] == (parts, 256) and codes.shape == (parts, 400) and codes.dtype == np.uint8
    width = centres.shape[2]
    padded = [np.pad(side, ((0, 0), (0, parts * width - dimension))) for side in (database, queries)]
    wanted = np.zeros((6, 400))
    for part in range(parts):
        own, asked = (side[:, part * width : (part + 1) * width] for side in padded)
        for row in range(400):
            distances = np.linalg.norm(centres[part] - own[row], axis=1)
            assert distances[codes[part, row]] <= distances.min() + 1e-3
            wanted[:, row] += asked @ centres[part, codes[part, row]]
    np.testing.assert_allclose(index.scores(tf.constant(queries)), wanted, atol=1e-4)


def test_product_codes_are_the_same_every_time():
    vectors = unit(500, 32)
    first, second = (make("pq", vectors, index_bytes=8) for _ in range(2))
    for one, other in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_fewer_rows_than_centres_are_found_exactly():
    vectors = unit(60, 16)
    rows, _ = best(make("pq", vectors, index_bytes=16), tf.constant(vectors), tf.constant(1))
    np.testing.assert_array_equal(rows[:, 0], range(60))


def test_recall_counts_the_exact_best_that_are_found():
    vectors = unit(300, 32)
    assert recall(make("exact", vectors), vectors)["recall"] == 1
    index = make("pq", vectors, index_bytes=2)
    told = recall(index, vectors, k=5)
    scores, shares = index.scores(tf.constant(vectors)).numpy(), []
    drawn = np.sort(np.random.default_rng(0).permutation(300)[:256])
    for row in drawn:
        exact = [other for other in np.argsort(-(vectors @ vectors[row]), kind="stable") if other != row][:5]
        found = [other for other in np.argsort(-scores[row], kind="stable") if other != row][:5]
        shares.append(len(set(exact) & set(found)) / 5)
    assert told == {"k": 5, "queries": 256, "recall": pytest.approx(np.mean(shares), abs=1e-3)}
    assert 0.1 < told["recall"] < 0.9


def test_recall_of_next_to_nothing():
    assert recall(make("exact", unit(1, 8)), unit(1, 8)) == {"k": 0, "queries": 0, "recall": None}
    assert recall(make("int8", unit(2, 8)), unit(2, 8)) == {"k": 1, "queries": 2, "recall": 1.0}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"index": "a", "index_kind": "ivf"}, "--index_kind=ivf is unknown; one of exact, int8, pq is wanted"),
        ({"index": "a", "index_bytes": 8}, "--index_bytes=8 is of --index_kind=pq; this is exact"),
        ({"index": "a", "index_kind": "pq", "index_bytes": -1}, "--index_bytes=-1; bytes, or 0"),
        ({"index_kind": "int8"}, "was given without --index"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        IndexSettings(**settings)


def test_more_bytes_than_dimensions_are_refused():
    with pytest.raises(InputError, match="--index_bytes=20 and the descriptors have 16 dimensions"):
        make("pq", unit(30, 16), index_bytes=20)
