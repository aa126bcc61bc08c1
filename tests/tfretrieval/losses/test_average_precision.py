import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import AveragePrecision, TieAwareAveragePrecision
from tfretrieval.losses.average_precision import average_precision

from .checks import assert_is_the_loop, random_units

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4]


def histograms(values, matches, centres):
    """Soft counts of a list in bins around descending centres: (matches, all)."""
    width = centres[0] - centres[1]
    hits, found = np.zeros(len(centres)), np.zeros(len(centres))
    for value, match in zip(values, matches, strict=True):
        value = min(max(value, centres[-1]), centres[0])
        for m, centre in enumerate(centres):
            share = max(0.0, 1 - abs(value - centre) / width)
            found[m] += share
            hits[m] += share * match
    return hits, found


def of_histograms(hits, found, tie_aware):
    total = 0.0
    for m in range(len(hits)):
        if tie_aware:
            total += hits[m] * (hits[:m].sum() + hits[: m + 1].sum() + 1) / (found[:m].sum() + found[: m + 1].sum() + 1)
        elif found[: m + 1].sum() > 0:
            total += hits[m] * hits[: m + 1].sum() / found[: m + 1].sum()
    return total / hits.sum()


def loop(rows, labels, bins=20, low=-1.0, tie_aware=False):
    rows, centres, precisions = rows.astype(np.float64), np.linspace(1, low, bins), []
    for q in range(len(rows)):
        others = [j for j in range(len(rows)) if j != q]
        matches = [labels[j] == labels[q] for j in others]
        if any(matches):
            hits, found = histograms([rows[q] @ rows[j] for j in others], matches, centres)
            precisions.append(of_histograms(hits, found, tie_aware))
    return 1 - np.mean(precisions)


@pytest.mark.parametrize("constants", [{}, {"bins": 7, "low": 0.0}, {"bins": 2}])
@pytest.mark.parametrize("tie_aware", [False, True])
def test_equals_the_loop(constants, tie_aware):
    rows = random_units(12, 4)
    form = {**constants, "tie_aware": tie_aware}
    assert 0.1 < loop(rows, LABELS, **form) < 1
    assert_is_the_loop(lambda x: average_precision(x, LABELS, **form), lambda x: loop(x, LABELS, **form), rows)


def test_eleven_bins_are_fastap():
    """Cakir et al. 2019, equations 7 to 10: soft histograms of the squared distance in [0, 4] with 10 intervals."""
    rows, precisions = random_units(12, 4, seed=3), []
    edges = np.linspace(0, 4, 11)
    for q in range(12):
        hits, found = np.zeros(11), np.zeros(11)
        for j in range(12):
            if j != q:
                squared = np.sum((rows[q].astype(np.float64) - rows[j]) ** 2)
                pulse = np.maximum(0, 1 - np.abs(squared - edges) / 0.4)
                found += pulse
                hits += pulse * (LABELS[j] == LABELS[q])
        if hits.sum():
            so_far = np.maximum(np.cumsum(found), 1e-9)
            precisions.append(np.sum(hits * np.cumsum(hits) / so_far) / hits.sum())
    np.testing.assert_allclose(average_precision(rows, LABELS, bins=11), 1 - np.mean(precisions), rtol=1e-5)


def test_by_hand():
    # Bins at 1, 0, -1. Of the first photo: the match at 0, then the other at -1: AP 1. Of the second: the match and
    # the other both at 0: 1 of 2, or (0 + 1 + 1) / (0 + 2 + 1) tie-aware. The third has no match.
    rows = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    np.testing.assert_allclose(average_precision(rows, [0, 0, 1], bins=3), 1 - (1 + 1 / 2) / 2, rtol=1e-6)
    np.testing.assert_allclose(
        average_precision(rows, [0, 0, 1], bins=3, tie_aware=True), 1 - (1 + 2 / 3) / 2, rtol=1e-6
    )


def test_tie_aware_form_is_nearer_to_the_mean_over_all_orders_of_ties():
    rng, errors = np.random.default_rng(0), {False: [], True: []}
    for _ in range(20):
        bins, matches = np.sort(rng.integers(0, 3, 6)), rng.integers(0, 2, 6).astype(bool)
        if not matches.any():
            continue
        exact = []
        for order in itertools.permutations(range(6)):
            if all(bins[a] <= bins[b] for a, b in itertools.pairwise(order)):
                ranked = matches[list(order)]
                exact.append(np.mean(np.cumsum(ranked)[ranked] / (np.flatnonzero(ranked) + 1)))
        hits, found = histograms(-bins.astype(float), matches, [0.0, -1.0, -2.0])
        for form, collected in errors.items():
            collected.append(abs(of_histograms(hits, found, form) - np.mean(exact)))
    assert np.mean(errors[True]) < 0.06 < np.mean(errors[False])


@pytest.mark.parametrize("tie_aware", [False, True])
def test_perfect_order_costs_nothing(tie_aware):
    rows = np.repeat(np.eye(3, dtype=np.float32), 2, axis=0)
    assert float(average_precision(rows, [0, 0, 1, 1, 2, 2], tie_aware=tie_aware)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [5, 5, 5, 5]])
def test_batch_without_matches_or_without_others_costs_nothing_and_has_no_gradient(labels):
    rows = tf.constant(random_units(4, 3))
    with tf.GradientTape() as tape:
        tape.watch(rows)
        loss = average_precision(rows, labels)
    assert float(loss) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(tape.gradient(loss, rows), 0, atol=1e-6)


@pytest.mark.parametrize("kind", [AveragePrecision, TieAwareAveragePrecision])
def test_keras_loss_equals_the_function_and_survives_a_round_trip(kind):
    rows, loss = random_units(12, 5), kind(bins=9, low=-0.5, name="own")
    expected = average_precision(rows, LABELS, 9, -0.5, kind is TieAwareAveragePrecision)
    assert float(loss(np.array(LABELS), rows)) == pytest.approx(float(expected))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is kind and again.get_config() == loss.get_config() and (again.bins, again.low) == (9, -0.5)


def test_impossible_bins_are_refused():
    for given in ({"bins": 1}, {"low": 1.0}, {"low": float("nan")}):
        with pytest.raises(ValueError, match="2 bins or more down to a low below 1 are wanted"):
            AveragePrecision(**given)
