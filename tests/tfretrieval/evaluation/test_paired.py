import itertools
import math

import numpy as np
import pytest

from tfretrieval.evaluation import paired
from tfretrieval.evaluation.paired import compare_paired


def exact_p_value(differences):
    """Share of all sign patterns, differences of 0 among them, whose mean is at least as far from 0."""
    observed = abs(sum(differences))
    patterns = list(itertools.product((-1, 1), repeat=len(differences)))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in patterns]
    return sum(value >= observed - 1e-12 for value in sums) / len(patterns)


@pytest.mark.parametrize("seed", range(8))
def test_few_queries_are_tested_exactly(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.random(9), rng.random(9)
    second[:2] = first[:2]
    found = compare_paired(first, second)
    assert found.exact
    assert found.p_value == pytest.approx(exact_p_value((second - first).tolist()))
    assert found.difference == pytest.approx((second - first).mean())
    assert (found.better, found.worse, found.equal) == (
        np.sum(second > first),
        np.sum(second < first),
        2,
    )


def test_all_queries_better_by_hand():
    found = compare_paired(np.zeros(3), np.array([0.1, 0.2, 0.3]))
    assert found.p_value == 2 / 8  # all signs plus, or all minus
    assert (found.first, found.second, found.difference) == pytest.approx((0, 0.2, 0.2))


def test_equal_differences_count_as_equal_whatever_the_order_of_sums():
    assert compare_paired(np.zeros(10), np.full(10, 0.1)).p_value == 2 / 2**10


def test_runs_that_agree_have_no_difference():
    values = np.random.default_rng(0).random(30)
    found = compare_paired(values, values)
    assert (found.difference, found.interval, found.p_value, found.equal) == (0, (0, 0), 1, 30)


def test_many_queries_are_tested_by_draws_that_repeat():
    rng = np.random.default_rng(1)
    first = rng.random(70)
    second = np.clip(first + rng.normal(0.01, 0.05, 70), 0, 1)
    found = compare_paired(first, second, seed=3, permutations=20_000)
    assert not found.exact
    assert found == compare_paired(first, second, seed=3, permutations=20_000)
    assert found.p_value != compare_paired(first, second, seed=4, permutations=20_000).p_value
    differences = second - first
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(70))
    stats = pytest.importorskip("scipy.stats")
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(t), 69), abs=0.02)  # near the normal, many queries
    low, high = found.interval
    half = 1.96 * differences.std() / math.sqrt(70)
    assert (low, high) == pytest.approx((differences.mean() - half, differences.mean() + half), abs=0.15 * half)


def test_a_drawn_p_value_is_never_zero():
    found = compare_paired(np.zeros(40), np.ones(40), permutations=99, resamples=10)
    assert (found.p_value, found.exact) == (0.01, False)


def test_draws_in_parts_are_as_good(monkeypatch):
    rng = np.random.default_rng(2)
    first, second = rng.random(30), rng.random(30)
    whole = compare_paired(first, second, permutations=500, resamples=200)
    monkeypatch.setattr(paired, "_DRAWN_AT_A_TIME", 30 * 7)
    parts = compare_paired(first, second, permutations=500, resamples=200)
    assert parts.interval == pytest.approx(whole.interval, abs=0.02)
    assert parts.p_value == pytest.approx(whole.p_value, abs=0.1)


def test_queries_without_a_figure_are_left_out():
    nan = math.nan
    found = compare_paired(np.array([nan, 0.2, 0.5]), np.array([0.3, 0.4, nan]))
    assert (found.queries, found.difference) == (1, pytest.approx(0.2))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="equal numbers"):
        compare_paired(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="no query has a figure"):
        compare_paired(np.array([math.nan]), np.zeros(1))
