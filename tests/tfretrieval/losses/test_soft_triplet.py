import numpy as np
import pytest

from tfretrieval.losses import BatchSoftTriplet, TupleSoftTriplet
from tfretrieval.losses.soft_triplet import batch_soft_triplet, tuple_soft_triplet

from .checks import assert_is_the_loop, distance, partners, random_units

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 3]
POWERS = {"L2": 1, "squared-L2": 2}


def tuple_loop(tuples, metric="L2"):
    power = POWERS[metric]
    return [
        sum(np.log(1 + np.exp(distance(q, p) ** power - distance(q, n) ** power)) for n in negatives)
        for q, p, *negatives in tuples
    ]


def batch_loop(rows, labels=LABELS, metric="L2"):
    losses = []
    for i, row in enumerate(rows):
        matches, others = ([distance(row, rows[j]) ** POWERS[metric] for j in found] for found in partners(labels, i))
        if matches and others:
            losses.append(np.log(1 + np.exp(max(matches) - min(others))))
    return np.mean(losses) if losses else 0.0


@pytest.mark.parametrize("metric", POWERS)
def test_tuple_loss_equals_the_loop_for_several_tuples(metric):
    tuples = random_units(3, 5, 4)
    assert_is_the_loop(lambda x: tuple_soft_triplet(x, metric), lambda x: tuple_loop(x, metric), tuples)


@pytest.mark.parametrize("metric", POWERS)
def test_batch_loss_equals_the_loop(metric):
    rows = random_units(9, 4)
    loop = lambda x: batch_loop(x, LABELS, metric)  # noqa: E731
    assert_is_the_loop(lambda x: batch_soft_triplet(x, LABELS, metric), loop, rows)


def test_by_hand():
    query, positive, far = [1, 0], [0, 1], [-1, 0]
    loss = tuple_soft_triplet(np.array([[query, positive, far]], np.float32))
    np.testing.assert_allclose(loss, [np.log1p(np.exp(np.sqrt(2) - 2))], rtol=1e-6)
    rows = np.array([query, positive, far], np.float32)
    found = float(batch_soft_triplet(rows, [0, 0, 1]))  # d = sqrt(2) for the match, 2 and sqrt(2) for the other
    assert found == pytest.approx((np.log1p(np.exp(np.sqrt(2) - 2)) + np.log(2)) / 2, rel=1e-6)


def test_photos_without_a_match_count_only_on_request():
    rows, labels = random_units(3, 4), [0, 0, 1]
    gaps = [distance(rows[0], rows[1]) - distance(rows[i], rows[2]) for i in (0, 1)]
    lonely = -min(distance(rows[2], rows[0]), distance(rows[2], rows[1]))
    soft = np.log1p(np.exp([*gaps, lonely]))
    assert float(batch_soft_triplet(rows, labels)) == pytest.approx(soft[:2].mean(), rel=1e-5)
    assert float(batch_soft_triplet(rows, labels, complete_only=False)) == pytest.approx(soft.mean(), rel=1e-5)


def test_keras_losses_equal_the_functions():
    tuples, rows = random_units(3, 4, 5), random_units(9, 5)
    expected = float(np.mean(tuple_soft_triplet(tuples, "angular")))
    assert float(TupleSoftTriplet("angular")(np.arange(12), tuples)) == pytest.approx(expected)
    expected = float(batch_soft_triplet(rows, LABELS, "squared-L2", False))
    assert float(BatchSoftTriplet("squared-L2", False)(np.array(LABELS), rows)) == pytest.approx(expected)
    with pytest.raises(ValueError, match="distance_metric"):
        TupleSoftTriplet("cosine")
