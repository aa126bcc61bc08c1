import numpy as np
import pytest

from tfretrieval.losses import BatchSecondOrderSimilarity, TupleSecondOrderSimilarity, TupleTriplet, WeightedSum, pairs
from tfretrieval.losses.second_order_similarity import batch_second_order_similarity, tuple_second_order_similarity

from .checks import assert_is_the_loop, distance, gradient, partners, random_units

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 3]


def tuple_loop(tuples):
    """SOLAR's code: the root of the sum over all tuples, by the number of tuples."""
    total = sum(
        (distance(query, negative) ** 2 - distance(positive, negative) ** 2) ** 2
        for query, positive, *negatives in tuples
        for negative in negatives
    )
    return np.sqrt(total) / len(tuples)


def batch_loop(rows, kept=()):
    total, count, columns = 0.0, 0, [*rows, *kept]
    for i in range(len(rows)):
        matches, _ = partners(LABELS, i)
        if matches:
            match = max(matches, key=lambda j: distance(rows[i], rows[j]))
            others = [n for n in range(len(columns)) if n >= len(rows) or LABELS[n] != LABELS[i]]
            total += sum(
                (distance(rows[i], columns[n]) ** 2 - distance(rows[match], columns[n]) ** 2) ** 2 for n in others
            )
            count += 1
    return np.sqrt(total) / max(1, count)


@pytest.mark.parametrize("count", [1, 3])
def test_tuple_loss_equals_the_loop(count):
    assert_is_the_loop(tuple_second_order_similarity, tuple_loop, random_units(count, 5, 4))


def test_tuple_loss_by_hand():
    query, positive, negative = [1, 0], [0, 1], [0.6, 0.8]  # d^2 0.8 from the query, 0.4 from the positive
    tuples = np.array([[query, positive, negative]] * 2, np.float32)
    assert float(tuple_second_order_similarity(tuples)) == pytest.approx(np.sqrt(2 * 0.4**2) / 2, rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_batch_loss_equals_the_loop(seed):
    rows = random_units(9, 4, seed=seed)
    assert_is_the_loop(lambda x: batch_second_order_similarity(x, LABELS), batch_loop, rows)


def test_photos_of_a_memory_are_more_non_matches():
    rows, kept = random_units(9, 4), random_units(3, 4, seed=1)
    memory = pairs.Memory(kept, np.array([7, 8, -1]))
    found = float(batch_second_order_similarity(rows, LABELS, memory))
    assert found == pytest.approx(batch_loop(rows, kept[:2]), rel=1e-5)


def test_no_cost_and_no_gradient_for_equally_far_photos():
    tuples = random_units(2, 4, 5)
    tuples[:, 1] = tuples[:, 0]
    assert float(tuple_second_order_similarity(tuples)) == 0
    assert not gradient(tuple_second_order_similarity, tuples).any()


def test_regularises_a_triplet_loss():
    tuples, labels = random_units(3, 4, 5), np.arange(12)
    both = WeightedSum([TupleTriplet(1.25), TupleSecondOrderSimilarity()], [1.0, 10.0])
    expected = float(TupleTriplet(1.25)(labels, tuples)) + 10 * tuple_loop(tuples)
    assert float(both(labels, tuples)) == pytest.approx(expected, rel=1e-5)
    assert float(BatchSecondOrderSimilarity()(np.array(LABELS), random_units(9, 4))) > 0
