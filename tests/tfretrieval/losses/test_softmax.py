import keras
import numpy as np
import pytest

from tfretrieval.losses import Softmax
from tfretrieval.losses.softmax import softmax

from .checks import assert_is_the_loop, random_units

LABELS = [0, 3, 1, 1, 2, 0]


def loop(rows, labels, weights, bias):
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        logits = [row @ weight + shift for weight, shift in zip(weights.astype(float), bias, strict=True)]
        total += np.log(np.sum(np.exp(logits))) - logits[label]
    return total / len(rows)


def test_equals_the_loop():
    rng = np.random.default_rng(7)
    weights, bias = 5 * rng.normal(size=(4, 8)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    assert_is_the_loop(
        lambda x: softmax(x, LABELS, weights, bias), lambda x: loop(x, LABELS, weights, bias), random_units(6, 8)
    )


def test_keras_loss_equals_the_function_and_survives_a_round_trip():
    rows, loss = random_units(6, 8), Softmax(name="own")
    loss.build(instances=4, dimension=8, seed=3)
    weights, bias = loss.trainable_variables
    np.testing.assert_array_equal(bias.numpy(), np.zeros(4))
    assert float(loss(np.array(LABELS), rows)) == pytest.approx(loop(rows, LABELS, weights.numpy(), np.zeros(4)), 1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is Softmax and again.get_config() == loss.get_config()
