import math

import numpy as np
import pytest

from tfretrieval.evaluation import metrics


def test_hand_worked_average_precisions():
    # Hits at 0-based ranks 1, 3, 6 with 4 relevant: (1/2 + 2/4 + 3/7 + 0) / 4.
    assert metrics.rectangular_ap(np.array([1, 3, 6]), 4) == pytest.approx(0.357142857)
    assert metrics.rectangular_ap(np.array([0, 1, 2]), 3) == 1.0
    assert metrics.rectangular_ap(np.array([1]), 1) == 0.5
    assert metrics.rectangular_ap(np.array([], int), 5) == 0.0


def test_average_precision_is_undefined_without_relevant_photos():
    assert math.isnan(metrics.rectangular_ap(np.array([], int), 0))


def test_first_relevant_rank_counts_from_one_and_is_zero_where_none_is_found():
    assert metrics.first_relevant_rank(np.array([3, 9])) == 4
    assert metrics.first_relevant_rank(np.array([], int)) == 0


def test_hand_worked_recall():
    first = np.array([1, 3, 6, 0, 11])
    assert [metrics.recall_at(first, k) for k in (1, 5, 10, 11)] == [0.2, 0.4, 0.6, 0.8]
    assert math.isnan(metrics.recall_at(np.array([], int), 1))


def test_precision_at_shares_by_hand():
    # Precisions 1/2, 2/4, 3/7 at shares 1/4, 2/4, 3/4; the fourth is never found.
    found = metrics.precision_at_shares(np.array([1, 3, 6]), 4)
    assert found.shape == metrics.SHARES.shape
    assert (found[:51] == 0.5).all()
    assert found[51:76] == pytest.approx(3 / 7)
    assert (found[76:] == 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_precision_at_shares_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    relevant = int(rng.integers(1, 30))
    ranks = np.sort(rng.permutation(60)[: rng.integers(0, relevant + 1)])
    pairs = [((j + 1) / relevant, (j + 1) / (rank + 1)) for j, rank in enumerate(ranks.tolist())]
    expected = [max((p for s, p in pairs if s >= share - 1e-9), default=0.0) for share in metrics.SHARES]
    assert metrics.precision_at_shares(ranks, relevant) == pytest.approx(expected)
