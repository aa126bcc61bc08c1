import numpy as np
import pytest

from tfretrieval.search.ranking import Ranking
from tfretrieval.search.voting import vote


def test_the_sum_of_similarities_decides_by_hand():
    ranking = Ranking(np.array([[0, 1, 2, 3]], np.int32), np.array([[0.9, 0.5, 0.45, 0.4]], np.float32))
    labels = np.array([7, 4, 4, 7])
    assert vote(ranking, labels, 1).labels.tolist() == [7]
    three = vote(ranking, labels, 3)  # 0.9 for 7, 0.5 + 0.45 for 4
    assert three.labels.tolist() == [4]
    np.testing.assert_allclose(three.scores, [0.95], rtol=1e-6)
    four = vote(ranking, labels, 4)  # 1.3 for 7
    assert four.labels.tolist() == [7]
    np.testing.assert_allclose(four.scores, [1.3], rtol=1e-6)


def test_equal_sums_go_to_the_label_that_stands_higher():
    ranking = Ranking(np.array([[2, 0, 1]], np.int32), np.array([[0.5, 0.25, 0.25]], np.float32))
    assert vote(ranking, np.array([3, 3, 9]), 3).labels.tolist() == [9]


def test_against_an_explicit_loop():
    rng = np.random.default_rng(0)
    similarity = -np.sort(-rng.uniform(size=(50, 12)).astype(np.float32), axis=1)
    order = np.stack([rng.permutation(40)[:12] for _ in range(50)]).astype(np.int32)
    labels = rng.integers(0, 5, 40)
    found = vote(Ranking(order, similarity), labels, 8)
    for query in range(50):
        sums = {}
        for row, score in zip(order[query, :8], similarity[query, :8], strict=True):
            sums[labels[row]] = sums.get(labels[row], 0.0) + float(score)
        best = max(sums, key=sums.get)
        assert found.labels[query] == best
        assert found.scores[query] == pytest.approx(sums[best], rel=1e-6)


@pytest.mark.parametrize("k", [0, -1])
def test_nobody_votes(k):
    with pytest.raises(ValueError, match="1 or more"):
        vote(Ranking(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32)), np.zeros(1, int), k)
