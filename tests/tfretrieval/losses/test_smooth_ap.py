import keras
import numpy as np
import pytest

from tfretrieval.losses import SmoothAP
from tfretrieval.losses.smooth_ap import smooth_ap

from .checks import assert_is_the_loop, random_units

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4]


def loop(rows, labels, above):
    """Brown et al. 2020, equation 8, with `above(difference)` in the place of the sigmoid."""
    rows, precisions = rows.astype(np.float64), []
    for q in range(len(rows)):
        others = [j for j in range(len(rows)) if j != q]
        matches = [j for j in others if labels[j] == labels[q]]
        ratios = []
        for i in matches:
            first = 1 + sum(above(rows[q] @ rows[j] - rows[q] @ rows[i]) for j in matches if j != i)
            second = sum(above(rows[q] @ rows[j] - rows[q] @ rows[i]) for j in others if j not in matches)
            ratios.append(first / (first + second))
        if ratios:
            precisions.append(np.mean(ratios))
    return 1 - np.mean(precisions)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_equals_the_loop(temperature):
    rows = random_units(12, 4)
    above = lambda difference: 1 / (1 + np.exp(-difference / temperature))  # noqa: E731
    assert 0.1 < loop(rows, LABELS, above) < 1
    assert_is_the_loop(lambda x: smooth_ap(x, LABELS, temperature), lambda x: loop(x, LABELS, above), rows)


def test_is_the_average_precision_at_low_temperature():
    rows = random_units(12, 4, seed=1)
    np.testing.assert_allclose(smooth_ap(rows, LABELS, 1e-6), loop(rows, LABELS, lambda d: d > 0), rtol=1e-4)


def test_by_hand():
    # Query 1 sees its match at 0 and the other at -1; query 2 sees both at 0, where the sigmoid is 1/2.
    rows = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    np.testing.assert_allclose(smooth_ap(rows, [0, 0, 1]), 1 - (1 + 1 / 1.5) / 2, rtol=1e-6)


def test_keras_loss_equals_the_function_and_survives_a_round_trip():
    rows, loss = random_units(12, 5), SmoothAP(temperature=0.05, name="own")
    assert float(loss(np.array(LABELS), rows)) == pytest.approx(float(smooth_ap(rows, LABELS, 0.05)))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is SmoothAP and again.get_config() == loss.get_config() and again.temperature == 0.05
    assert SmoothAP().temperature == 0.01
