import numpy as np
import pytest

from tfretrieval.search.k_reciprocal import k_reciprocal_distances
from tfretrieval.search.reranking import parse_chain


def clustered(seed, count, dimension=12, clusters=20):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(clusters, dimension))
    vectors = centres[np.arange(count) % clusters] + 0.7 * rng.normal(size=(count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_sets(vectors, k1, k2, weight):
    """The published algorithm on sets of neighbours, written from its definition."""
    count = len(vectors)
    exact = vectors.astype(np.float64)
    distances = np.array([[((a - b) ** 2).sum() for b in exact] for a in exact])
    distances = distances / distances.max(axis=1, keepdims=True)
    nearest = [sorted(range(count), key=lambda j, i=i: (j != i, distances[i, j], j)) for i in range(count)]

    def reciprocal(i, k):
        return {j for j in nearest[i][: k + 1] if i in nearest[j][: k + 1]}

    encoded = np.zeros((count, count))
    for i in range(count):
        own = reciprocal(i, k1)
        joined = set(own)
        for j in own:
            theirs = reciprocal(j, int(np.around(k1 / 2)))
            if len(theirs & own) > 2 / 3 * len(theirs):
                joined |= theirs
        for j in joined:
            encoded[i, j] = np.exp(-distances[i, j])
        encoded[i] /= encoded[i].sum()
    if k2 > 1:
        encoded = np.array([np.mean([encoded[j] for j in nearest[i][:k2]], axis=0) for i in range(count)])
    found = []
    for j in range(1, count):
        smaller = sum(min(a, b) for a, b in zip(encoded[0], encoded[j], strict=True))
        found.append((1 - smaller / (2 - smaller)) * (1 - weight) + distances[0, j] * weight)
    return np.array(found)


@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.3), (5, 1, 0.0), (7, 3, 1.0), (1, 2, 0.5), (9, 4, 0.1)])
def test_distances_are_those_of_sets(k1, k2, weight):
    vectors = np.concatenate([clustered(0, 1), clustered(1, 150)])
    found = k_reciprocal_distances(vectors, k1, k2, weight)
    np.testing.assert_allclose(found, by_sets(vectors, k1, k2, weight), atol=1e-9)


def test_lists_shorter_than_the_settings_and_copies_of_a_photo():
    vectors = np.repeat(clustered(2, 5), 2, axis=0)
    np.testing.assert_allclose(k_reciprocal_distances(vectors, 20, 9, 0.3), by_sets(vectors, 20, 9, 0.3), atol=1e-9)
    assert k_reciprocal_distances(vectors[:1], 20, 6, 0.3).shape == (0,)
    same = k_reciprocal_distances(np.repeat(vectors[:1], 4, axis=0), 2, 1, 0.3)
    np.testing.assert_allclose(same[0], 0, atol=1e-9)


def test_a_short_list_of_500_photos_is_ordered_and_the_tail_stays():
    queries, database = clustered(3, 4), clustered(4, 500)
    found = parse_chain("kreciprocal:k1=10,k2=4,weight=0.3,top=120").rerank(queries, database)
    for q, query in enumerate(queries):
        order = np.argsort(-(database.astype(np.float64) @ query), kind="stable")
        distances = by_sets(np.concatenate([query[None], database[order[:120]]]), 10, 4, 0.3)
        expected = order[:120][np.argsort(distances, kind="stable")]
        np.testing.assert_allclose(found.similarity[q, :120], 1 - np.sort(distances), atol=1e-6)
        assert found.order[q, :120].tolist() == expected.tolist()
        assert found.order[q, 120:].tolist() == order[120:].tolist()
