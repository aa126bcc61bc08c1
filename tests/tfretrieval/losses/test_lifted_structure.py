import numpy as np
import pytest

from tfretrieval.losses import LiftedStructure, pairs
from tfretrieval.losses.lifted_structure import MARGIN, lifted_structure

from .checks import assert_is_the_loop, distance, partners, random_units

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 3]


def loop(rows, labels=LABELS, margin=MARGIN, kept=(), kept_labels=()):
    """Oh Song et al. 2016, equation 4; photos of a memory are more non-matches."""
    rows, total, count = list(rows), 0.0, 0
    columns, column_labels = rows + list(kept), [*labels, *kept_labels]
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            if labels[i] == labels[j]:
                others = partners(column_labels, i)[1]
                pushed = sum(np.exp(margin - distance(rows[a], columns[k])) for a in (i, j) for k in others)
                if others:
                    total += max(0.0, np.log(pushed) + distance(rows[i], rows[j])) ** 2
                count += 1
    return total / (2 * max(1, count))


@pytest.mark.parametrize("margin", [0.3, MARGIN])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_equals_the_loop_for_descriptors_of_any_length(margin, scale):
    rows = scale * random_units(9, 4)
    assert_is_the_loop(lambda x: lifted_structure(x, LABELS, margin), lambda x: loop(x, LABELS, margin), rows)


def test_gradient_is_the_derivative_where_distances_are_tied():
    """That of tensorflow-addons is not: it leaves a part of the gradient of its largest exponents."""
    corners = (np.random.default_rng(0).integers(0, 2, size=(9, 4)) - 0.5).astype(np.float32)
    corners[2] = -corners[0]
    assert_is_the_loop(lambda x: lifted_structure(x, LABELS, 0.3), lambda x: loop(x, LABELS, 0.3), corners)


def test_by_hand():
    rows = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    # One pair at sqrt(2); its photos are 2 and sqrt(2) from the third.
    violation = np.log(np.exp(1 - 2) + np.exp(1 - np.sqrt(2))) + np.sqrt(2)
    assert float(lifted_structure(rows, [0, 0, 1])) == pytest.approx(violation**2 / 2, rel=1e-6)


def test_photos_of_a_memory_are_more_non_matches():
    rows, kept, kept_labels = random_units(9, 4), random_units(4, 4, seed=1), [0, 7, 8, -1]
    found = float(lifted_structure(rows, LABELS, memory=pairs.Memory(kept, np.array(kept_labels))))
    assert found == pytest.approx(loop(rows, LABELS, MARGIN, kept[:3], kept_labels[:3]), rel=1e-5)


def test_keras_loss_equals_the_function():
    rows = random_units(9, 4)
    assert float(LiftedStructure(0.7)(np.array(LABELS), rows)) == pytest.approx(loop(rows, LABELS, 0.7), rel=1e-5)
