import keras
import numpy as np
import pytest

from tfretrieval.losses import CosFace
from tfretrieval.losses.cosface import cosface

from .checks import assert_is_the_loop, random_units

LABELS = [0, 3, 1, 1, 2, 0]
WEIGHTS = np.random.default_rng(7).normal(size=(4, 8)).astype(np.float32)


def loop(rows, labels, weights, margin, scale):
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        logits = [scale * row @ weight / np.linalg.norm(weight) for weight in weights.astype(float)]
        logits[label] -= scale * margin
        total += np.log(np.sum(np.exp(np.array(logits) - max(logits)))) + max(logits) - logits[label]
    return total / len(rows)


@pytest.mark.parametrize(("margin", "scale"), [(0.35, 64.0), (0.0, 16.0), (0.2, 30.0)])
def test_equals_the_loop(margin, scale):
    assert_is_the_loop(
        lambda x: cosface(x, LABELS, WEIGHTS, margin, scale),
        lambda x: loop(x, LABELS, WEIGHTS, margin, scale),
        random_units(6, 8),
    )


def test_by_hand():
    # Cosines 1 to the own and 0 to the other class; logits 2 (1 - 0.25) = 1.5 and 0.
    expected = np.log(1 + np.exp(-1.5))
    assert float(cosface(np.eye(2, dtype=np.float32), [0, 1], np.eye(2, dtype=np.float32), 0.25, 2.0)) == pytest.approx(
        expected
    )


def test_keras_loss_equals_the_function_and_survives_a_round_trip():
    rows, loss = random_units(6, 8), CosFace(margin=0.2, scale=20.0, warmup=7, name="own")
    loss.build(instances=4, dimension=8, seed=3)
    loss.non_trainable_variables[0].assign(7)
    expected = cosface(rows, LABELS, loss.trainable_variables[0].numpy(), 0.2, 20.0)
    assert float(loss(np.array(LABELS), rows)) == pytest.approx(float(expected))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is CosFace and again.get_config() == loss.get_config()
    assert (again.margin, again.scale, again.warmup) == (0.2, 20.0, 7)
    assert (CosFace().margin, CosFace().scale, CosFace().warmup) == (0.35, 64.0, 0)
