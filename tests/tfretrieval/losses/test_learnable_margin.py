import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import ArcFace, BatchContrastive, LearnableMargin, SupervisedContrastive, TupleContrastive
from tfretrieval.losses.contrastive import tuple_contrastive

from .checks import random_units

TUPLES = random_units(3, 6, 4)


def settle(loss, steps=600):
    (variable,) = loss.trainable_variables
    optimizer = keras.optimizers.Adam(0.02)
    optimizer.build([variable])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = loss(np.zeros(18), TUPLES)
        optimizer.apply([tape.gradient(value, variable.value)], [variable])

    for _ in range(steps):
        step()
    return float(loss.margin)


def test_begins_at_the_losses_own_margin_at_no_cost():
    loss = LearnableMargin(TupleContrastive(1.3), penalty=0.5)
    loss.build(instances=3, dimension=4, seed=0)
    assert loss.name == "contrastive" and len(loss.trainable_variables) == 1
    assert float(loss.scalars["contrastive/margin"]) == pytest.approx(1.3)
    assert float(loss(np.zeros(18), TUPLES)) == pytest.approx(np.mean(tuple_contrastive(TUPLES, 1.3)), rel=1e-6)
    loss.trainable_variables[0].assign(np.log(np.expm1(1.0)))
    expected = np.mean(tuple_contrastive(TUPLES, 1.0)) + 0.5 * 0.3**2
    assert float(loss(np.zeros(18), TUPLES)) == pytest.approx(expected, rel=1e-5)
    assert loss.loss.margin == 1.3


def test_settles_where_hinge_and_penalty_balance_and_the_nearer_to_0_the_weaker_the_penalty():
    found = []
    for penalty in (10.0, 1.0, 0.1):
        loss = LearnableMargin(TupleContrastive(1.3), penalty)
        loss.build(instances=3, dimension=4, seed=0)
        tau = settle(loss)
        violations = [max(0.0, tau - np.linalg.norm(t[0] - n)) for t in TUPLES for n in t[2:]]
        assert sum(violations) / 3 == pytest.approx(2 * penalty * (1.3 - tau), rel=0.05, abs=0.01)
        found.append(tau)
    assert 1.3 > found[0] > found[1] > found[2] > 0


@pytest.mark.parametrize("penalty", [0.0, -1.0, float("nan")])
def test_without_a_penalty_it_is_refused_with_the_reason(penalty):
    with pytest.raises(ValueError, match="without a penalty above 0 it falls to 0"):
        LearnableMargin(BatchContrastive(), penalty)


def test_a_loss_without_a_margin_is_refused():
    with pytest.raises(ValueError, match="supervised_contrastive has no margin to learn"):
        LearnableMargin(SupervisedContrastive(), 1.0)


def test_owns_what_the_loss_within_owns():
    loss = LearnableMargin(ArcFace(0.3), 1.0)
    loss.build(instances=3, dimension=4, seed=0)
    assert [v.name for v in loss.trainable_variables] == ["class_weights", "margin"]
    assert np.isfinite(loss(np.array([0, 1, 2]), TUPLES[0, :3]))


def test_configuration_makes_an_equal_loss():
    loss = LearnableMargin(TupleContrastive(1.3), penalty=0.5, name="own")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is LearnableMargin and again.get_config() == loss.get_config()
    assert (again.penalty, again.loss.margin, again.name) == (0.5, 1.3, "own")
