import numpy as np
import pytest

from tfretrieval.search.reranking import parse_chain
from tfretrieval.search.superglobal import superglobal_scores


def unit(seed, count, dimension=24):
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_loops(query, photos, k, beta):
    query, photos = query.astype(np.float64), photos.astype(np.float64)
    refined = []
    for i, own in enumerate(photos):
        others = sorted((j for j in range(len(photos)) if j != i), key=lambda j: (-(photos[j] @ own), j))[:k]
        weights = [1.0] + [beta * (photos[j] @ own) for j in others]
        parts = [own] + [photos[j] for j in others]
        refined.append(sum(w * part for w, part in zip(weights, parts, strict=True)) / sum(weights))
    first = [query @ own for own in refined]
    best = sorted(range(len(photos)), key=lambda i: (-first[i], i))[: k + 1]
    largest = [max(refined[i][d] for i in best) for d in range(len(query))]
    return np.array([(a + np.dot(largest, own)) / 2 for a, own in zip(first, refined, strict=True)])


@pytest.mark.parametrize(
    ("count", "k", "beta"), [(60, 9, 0.15), (60, 3, 1.0), (60, 0, 0.15), (4, 9, 0.15), (1, 9, 0.15), (60, 9, 0)]
)
def test_scores_are_those_of_loops(count, k, beta):
    query, photos = unit(0, 1)[0], unit(1, count)
    np.testing.assert_allclose(superglobal_scores(query, photos, k, beta), by_loops(query, photos, k, beta), atol=1e-6)


def test_scores_by_hand():
    # The neighbour weighs 0.5 * 0.6: refined (1.18, 0.24) / 1.3 and (0.9, 0.8) / 1.3; the largest of both (1.18, 0.8).
    query, photos = np.array([1, 0], np.float32), np.array([[1, 0], [0.6, 0.8]], np.float32)
    first = np.array([1.18, 0.9]) / 1.3
    second = np.array([1.18 * 1.18 + 0.24 * 0.8, 0.9 * 1.18 + 0.8 * 0.8]) / 1.3**2
    np.testing.assert_allclose(superglobal_scores(query, photos, 1, 0.5), (first + second) / 2, rtol=1e-6)
    assert superglobal_scores(query, photos[:0], 1, 0.5).shape == (0,)


def test_a_short_list_is_ordered_and_the_tail_stays():
    queries, database = unit(2, 5), unit(3, 500)
    found = parse_chain("superglobal:top=80,k=5,beta=0.3").rerank(queries, database)
    for q, query in enumerate(queries):
        order = np.argsort(-(database.astype(np.float64) @ query), kind="stable")
        scores = by_loops(query, database[order[:80]], 5, 0.3)
        assert found.order[q, :80].tolist() == order[:80][np.argsort(-scores, kind="stable")].tolist()
        np.testing.assert_allclose(found.similarity[q, :80], np.sort(scores)[::-1], atol=1e-6)
        assert found.order[q, 80:].tolist() == order[80:].tolist()
