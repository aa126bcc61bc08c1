import numpy as np
import pytest

from tfretrieval.losses import RankedList, pairs
from tfretrieval.losses.ranked_list import ranked_list

from .checks import assert_is_the_loop, distance, partners, random_units

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 3]


def loop(rows, weights_of=None, margin=0.4, boundary=1.2, sharpness=10.0, balance=0.5):
    """Wang et al. 2019, equations 6 to 10, with the weights of `weights_of` (constants of the gradient)."""
    fixed, total = rows if weights_of is None else weights_of, 0.0
    for i in range(len(rows)):
        matches, others = partners(LABELS, i)
        pulled = [distance(rows[i], rows[p]) - (boundary - margin) for p in matches]
        pulled = [value for value in pulled if value > 0]
        near = [n for n in others if distance(rows[i], rows[n]) < boundary]
        weights = [np.exp(sharpness * (boundary - distance(fixed[i], fixed[n]))) for n in near]
        pushed = [boundary - distance(rows[i], rows[n]) for n in near]
        total += (1 - balance) * (np.mean(pulled) if pulled else 0)
        total += balance * (np.average(pushed, weights=weights) if near else 0)
    return total / len(rows)


@pytest.mark.parametrize("options", [{}, {"margin": 0.2, "boundary": 1.4, "sharpness": 0.0, "balance": 0.3}])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_loop(options, seed):
    rows = random_units(9, 4, seed=seed)
    assert_is_the_loop(lambda x: ranked_list(x, LABELS, **options), lambda x: loop(x, rows, **options), rows)


def test_by_hand():
    rows = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    # The pair is sqrt(2) apart; the third is sqrt(0.8) and sqrt(0.4) from its photos and has no match.
    pull, near, nearer = np.sqrt(2) - 0.8, 1.2 - np.sqrt(0.8), 1.2 - np.sqrt(0.4)
    weight, heavier = np.exp(2 * near), np.exp(2 * nearer)
    third = (weight * near + heavier * nearer) / (weight + heavier)
    expected = (0.5 * (pull + near) + 0.5 * (pull + nearer) + 0.5 * third) / 3
    assert float(ranked_list(rows, [0, 0, 1], sharpness=2.0)) == pytest.approx(expected, rel=1e-5)


def test_a_pair_within_the_radius_and_others_beyond_theirs_cost_nothing():
    rows = np.array([[1, 0, 0], [0.8, 0.6, 0], [-1, 0, 0]], np.float32)
    assert float(ranked_list(rows, [0, 0, 1])) == 0


def test_photos_of_a_memory_count_as_those_of_the_batch():
    rows, labels = random_units(9, 4), np.array(LABELS)
    whole = [float(ranked_list(rows[order], labels[order])) * 9 for order in (np.arange(9),)]
    parts = [
        float(ranked_list(rows[part], labels[part], memory=pairs.Memory(rows[rest], labels[rest]))) * len(part)
        for part, rest in ((np.arange(4), np.arange(4, 9)), (np.arange(4, 9), np.arange(4)))
    ]
    assert sum(parts) == pytest.approx(whole[0], rel=1e-5)


def test_keras_loss_equals_the_function():
    rows = random_units(9, 4)
    expected = loop(rows.astype(np.float64), None, 0.3, 1.1, 5.0, 0.4)
    assert float(RankedList(0.3, 1.1, 5.0, 0.4)(np.array(LABELS), rows)) == pytest.approx(expected, rel=1e-5)
