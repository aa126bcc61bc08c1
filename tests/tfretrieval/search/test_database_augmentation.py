import numpy as np
import pytest

from tfretrieval.search import database_augmentation
from tfretrieval.search.reranking import Context, parse_chain


def unit(seed, count, dimension=16):
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_loops(database, k, alpha):
    exact = database.astype(np.float64)
    augmented = np.empty_like(exact)
    for row, vector in enumerate(exact):
        scores = [float(other @ vector) for other in exact]
        others = sorted((other for other in range(len(exact)) if other != row), key=lambda o, s=scores: -s[o])
        augmented[row] = vector + sum(max(scores[o], 0) ** alpha * exact[o] for o in others[:k])
    return augmented / np.linalg.norm(augmented, axis=1, keepdims=True)


@pytest.mark.parametrize(("k", "alpha"), [(1, 1), (10, 1), (10, 0), (8, 2.5), (400, 1)])
@pytest.mark.parametrize("mapped", [False, True])
def test_augmented_rows_are_those_of_loops(monkeypatch, tmp_path, k, alpha, mapped):
    monkeypatch.setattr(database_augmentation, "_ROWS_AT_A_TIME", 64)
    if mapped:
        monkeypatch.setattr(database_augmentation, "_HELD_BYTES", 0)
    queries, database = unit(0, 3), unit(1, 300)
    given = database.copy()
    found = parse_chain(f"dba:k={k},alpha={alpha}").candidates(queries, database, context=Context(folder=str(tmp_path)))
    assert isinstance(found.database, np.memmap) == mapped
    assert not list(tmp_path.iterdir())  # the file has no name, so that it cannot be left behind
    expected = by_loops(database, k, alpha)
    np.testing.assert_allclose(found.database, expected, atol=2e-6)
    np.testing.assert_array_equal(database, given)
    scores = np.take_along_axis(queries @ expected.T.astype(np.float32), found.ranking.order, axis=1)
    assert (np.diff(scores) < 1e-5).all()
    np.testing.assert_allclose(found.ranking.similarity, scores, atol=1e-5)


def test_query_expansion_behind_it_takes_augmented_photos():
    queries, database = unit(0, 2), unit(1, 200)
    together = parse_chain("dba:k=5 | aqe:k=4,alpha=1").candidates(queries, database)
    augmented = by_loops(database, 5, 1).astype(np.float32)
    alone = parse_chain("aqe:k=4,alpha=1").candidates(queries, augmented)
    np.testing.assert_allclose(together.queries, alone.queries, atol=1e-5)
    np.testing.assert_allclose(together.ranking.similarity, alone.ranking.similarity, atol=1e-5)
