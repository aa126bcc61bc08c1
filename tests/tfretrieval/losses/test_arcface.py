import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import ArcFace
from tfretrieval.losses.arcface import arcface

from .checks import assert_is_the_loop, random_units

LABELS = [0, 3, 1, 1, 2, 0]
WEIGHTS = np.random.default_rng(7).normal(size=(4, 8)).astype(np.float32)


def loop(rows, labels, weights, margin, scale):
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        cosines = [row @ weight / np.linalg.norm(weight) for weight in weights.astype(float)]
        angle = math.acos(cosines[label])
        shifted = math.cos(angle + margin)
        if angle + margin >= math.pi:
            shifted = cosines[label] - margin * math.sin(margin)
        cosines[label] = shifted
        logits = scale * np.array(cosines)
        total += np.log(np.sum(np.exp(logits - max(logits)))) + max(logits) - logits[label]
    return total / len(rows)


@pytest.mark.parametrize(("margin", "scale"), [(0.5, 64.0), (0.1, 45.25), (0.0, 16.0), (1.5, 10.0)])
def test_equals_the_loop(margin, scale):
    rows = random_units(6, 8)
    rows[0] = -0.99 * WEIGHTS[0] / np.linalg.norm(WEIGHTS[0]) + 0.01 * rows[0]  # beyond pi - margin where there is one
    rows[0] /= np.linalg.norm(rows[0])
    assert_is_the_loop(
        lambda x: arcface(x, LABELS, WEIGHTS, margin, scale),
        lambda x: loop(x, LABELS, WEIGHTS, margin, scale),
        rows,
        tolerance=1e-4,
    )


def test_by_hand():
    # Angle 60 degrees to the own and 30 to the other class; with 30 degrees of margin logits 2 cos 90 and 2 cos 30.
    rows = np.array([[math.cos(math.pi / 3), math.sin(math.pi / 3)]], np.float32)
    expected = np.log(1 + np.exp(math.sqrt(3)))
    assert float(arcface(rows, [0], np.eye(2, dtype=np.float32), math.pi / 6, 2.0)) == pytest.approx(expected, rel=1e-5)


def warm(loss, runs):
    rows = random_units(6, 8)
    call = tf.function(loss)
    return [float(call(np.array(LABELS), rows)) for _ in range(runs)]


def test_margin_rises_over_the_first_calls_and_goes_on_where_it_was():
    loss, rows = ArcFace(margin=0.4, scale=20.0, warmup=4), random_units(6, 8)
    loss.build(instances=4, dimension=8, seed=3)
    weights = loss.trainable_variables[0].numpy()
    assert float(loss.scalars["arcface/margin"]) == 0
    expected = [float(arcface(rows, LABELS, weights, m, 20.0)) for m in (0, 0.1, 0.2, 0.3, 0.4, 0.4)]
    found = warm(loss, 6)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert float(loss.scalars["arcface/margin"]) == pytest.approx(0.4)

    stopped, resumed = (ArcFace(margin=0.4, scale=20.0, warmup=4) for _ in range(2))
    for number, part in enumerate((stopped, resumed)):
        part.build(instances=4, dimension=8, seed=3 * (1 - number))
    assert warm(stopped, 2) == found[:2]
    for variable, value in zip(resumed.variables, [v.numpy() for v in stopped.variables], strict=True):
        variable.assign(value)
    assert warm(resumed, 4) == found[2:]


def test_without_warm_up_nothing_is_counted_and_the_margin_is_whole():
    loss = ArcFace()
    loss.build(instances=4, dimension=8, seed=3)
    assert (loss.margin, loss.scale, loss.warmup) == (0.5, 64.0, 0)
    assert loss.non_trainable_variables == [] and loss.scalars == {} and float(loss.current_margin) == 0.5
    with pytest.raises(ValueError, match="warmup=-1"):
        ArcFace(warmup=-1)


def test_configuration_survives_a_round_trip():
    loss = ArcFace(margin=0.1, scale=45.25, warmup=100, name="own")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is ArcFace and again.get_config() == loss.get_config()
    assert (again.margin, again.scale, again.warmup) == (0.1, 45.25, 100)
