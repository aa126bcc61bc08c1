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


def test_one_list_has_several_average_precisions():
    """Hits at 0-based ranks 1, 3, 6 with 4 relevant, each definition worked by hand."""
    ranks = np.array([1, 3, 6])
    assert metrics.trapezoidal_ap(ranks, 4) == pytest.approx(
        ((0 / 1 + 1 / 2) / 2 + (1 / 3 + 2 / 4) / 2 + (2 / 6 + 3 / 7) / 2) / 4
    )
    assert metrics.trapezoidal_ap(ranks, 4) == pytest.approx(0.2619, abs=5e-5)
    assert metrics.rectangular_ap(ranks, 4) == pytest.approx(0.3571, abs=5e-5)
    assert metrics.ap_at(ranks, 4, 100) == metrics.rectangular_ap(ranks, 4)
    assert metrics.ap_at(ranks, 4, 5) == pytest.approx((1 / 2 + 2 / 4) / 4)
    assert metrics.ap_at(ranks, 4, 2) == pytest.approx((1 / 2) / 2)
    assert metrics.ap_at_r(ranks, 4) == pytest.approx((1 / 2 + 2 / 4) / 4)
    assert metrics.r_precision(ranks, 4) == 2 / 4


def test_trapezoids_by_hand():
    assert metrics.trapezoidal_ap(np.array([0, 1, 2]), 3) == 1.0
    assert metrics.trapezoidal_ap(np.array([1]), 1) == 0.25
    assert metrics.trapezoidal_ap(np.array([0]), 2) == 0.5
    assert metrics.trapezoidal_ap(np.array([], int), 5) == 0.0


def test_precision_at_k_has_two_definitions():
    ranks = np.array([0, 1])
    assert [metrics.precision_at(ranks, 2, k) for k in (1, 5, 10)] == [1, 0.4, 0.2]
    assert [metrics.revisited_precision_at(ranks, 2, k) for k in (1, 5, 10)] == [1, 1, 1]
    assert [metrics.revisited_precision_at(np.array([1]), 1, k) for k in (1, 5)] == [0, 0.5]
    assert metrics.revisited_precision_at(np.array([2, 30]), 2, 10) == 0.1
    assert metrics.revisited_precision_at(np.array([], int), 2, 10) == 0


def test_ns_score_counts_the_first_four():
    assert metrics.ns_score(np.array([0, 2, 3, 4]), 4) == 3
    assert metrics.ns_score(np.array([0, 1, 2, 3]), 4) == 4


def test_mean_rank_counts_from_one_and_is_unknown_where_photos_are_missing():
    assert metrics.mean_rank(np.array([0, 3]), 2) == 2.5
    assert math.isnan(metrics.mean_rank(np.array([0]), 2))


@pytest.mark.parametrize(
    "metric",
    [
        metrics.trapezoidal_ap,
        metrics.ap_at_r,
        metrics.r_precision,
        metrics.ns_score,
        metrics.mean_rank,
        lambda ranks, relevant: metrics.ap_at(ranks, relevant, 10),
        lambda ranks, relevant: metrics.precision_at(ranks, relevant, 10),
        lambda ranks, relevant: metrics.revisited_precision_at(ranks, relevant, 10),
    ],
)
def test_metrics_are_undefined_without_relevant_photos(metric):
    assert math.isnan(metric(np.array([], int), 0))


@pytest.mark.parametrize("seed", range(20))
def test_ap_at_k_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    right = rng.random(40) < 0.3
    relevant, k = int(right.sum() + rng.integers(1, 4)), int(rng.integers(1, 45))
    total = sum(right[: at + 1].mean() for at in range(min(k, 40)) if right[at])
    assert metrics.ap_at(np.flatnonzero(right), relevant, k) == pytest.approx(total / min(relevant, k))
