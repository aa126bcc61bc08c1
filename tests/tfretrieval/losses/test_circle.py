import keras
import numpy as np
import pytest

from tfretrieval.losses import Circle, pairs
from tfretrieval.losses.circle import MARGIN, SCALE, circle

from .checks import assert_is_the_loop, partners, random_units

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 3]


def loop(rows, weights_of=None, labels=LABELS, margin=MARGIN, scale=SCALE):
    """Sun et al. 2020, equation 6, with the weights of the descriptors `weights_of` (constants of the gradient)."""
    fixed = rows if weights_of is None else weights_of.astype(np.float64)
    losses = []
    for i in range(len(rows)):
        matches, others = partners(labels, i)
        push = sum(np.exp(scale * max(0, fixed[i] @ fixed[n] + margin) * (rows[i] @ rows[n] - margin)) for n in others)
        pull = sum(
            np.exp(-scale * max(0, 1 + margin - fixed[i] @ fixed[p]) * (rows[i] @ rows[p] - 1 + margin))
            for p in matches
        )
        if matches and others:
            losses.append(np.log(1 + push * pull))
    return np.mean(losses) if losses else 0.0


@pytest.mark.parametrize("options", [{}, {"margin": 0.25, "scale": 20.0}])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_loop(options, seed):
    rows = random_units(9, 4, seed=seed)
    assert_is_the_loop(lambda x: circle(x, LABELS, **options), lambda x: loop(x, rows, **options), rows, 1e-4)


def test_by_hand():
    rows = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], np.float32)
    first = np.log1p(np.exp(10 * 0.85 * 0.35 - 10 * 0.45 * 0.05))  # s_p 0.8, s_n 0.6, margin 0.25
    second = np.log1p(np.exp(10 * 1.21 * 0.71 - 10 * 0.45 * 0.05))  # s_n 0.96
    assert float(circle(rows, [0, 0, 1], 0.25, 10.0)) == pytest.approx((first + second) / 2, rel=1e-5)


def test_equals_keras_where_every_photo_has_both_kinds_of_pairs():
    rows, labels = random_units(12, 6), np.repeat(np.arange(4), 3)
    assert float(Circle()(labels, rows)) == pytest.approx(float(keras.losses.Circle()(labels, rows)), rel=1e-5)


def test_photos_of_a_memory_count_as_those_of_the_batch():
    rows, labels = random_units(12, 6), np.repeat(np.arange(4), 3)
    found = float(circle(rows[:6], labels[:6], memory=pairs.Memory(rows[6:], labels[6:])))
    each = [float(keras.losses.circle(labels, rows)[i]) for i in range(6)]
    assert found == pytest.approx(np.mean(each), rel=1e-5)
