import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import ArcFace, BatchContrastive, JointLoss, NormSoftmax, ProxyNCA, SupervisedContrastive
from tfretrieval.losses.joint import FLOOR, FORMS, joint

from .checks import random_units

LABELS = np.array([0, 0, 1, 1, 2, 2])
ROWS = random_units(6, 8)


class Fixed(keras.losses.Loss):
    """A loss of one value, whatever the descriptors."""

    def __init__(self, value, name):
        super().__init__(name=name)
        self.value = value

    def call(self, y_true, y_pred):
        return tf.constant(self.value) + 0.0 * tf.reduce_sum(y_pred)


def made(form, values=(3.0, 0.2), weights=None, **arguments):
    parts = [Fixed(value, f"part{number}") for number, value in enumerate(values)]
    loss = JointLoss(parts, weights or [1.0] * len(parts), form, **arguments)
    loss.build(instances=3, dimension=8, seed=0)
    return loss


def test_values_of_the_forms_by_hand():
    values, s = [tf.constant(3.0), tf.constant(0.2), tf.constant(1.0)], [0.5, -1.0, 0.25]
    e = np.exp
    assert float(joint(values, [], 0.0)) == pytest.approx(4.2)
    assert float(joint(values, s[:1], 0.0)) == pytest.approx(e(-0.5) * 3 + 0.5 + 1.2)
    assert float(joint(values, s, 0.0)) == pytest.approx(e(-0.5) * 3 + e(1) * 0.2 + e(-0.25) - 0.25)
    assert float(joint(values, s, 0.1)) == pytest.approx(e(-0.5) * 3.1 + e(1) * 0.3 + e(-0.25) * 1.1 - 0.25)


@pytest.mark.parametrize(("form", "learned"), [("fixed", 0), ("single", 1), ("uncertainty", 3)])
def test_gradients_of_the_exponents_by_hand(form, learned):
    loss = made(form, (3.0, 0.2, 1.0), weights=[1.0, 2.0, 0.5], floor=0.1)
    assert len(loss.trainable_variables) == learned
    for number, variable in enumerate(loss.trainable_variables):
        variable.assign(0.3 * number - 0.2)
    with tf.GradientTape() as tape:
        value = loss(LABELS, ROWS)
    if learned:
        found = tape.gradient(value, [variable.value for variable in loss.trainable_variables])
        weighted = (3.0, 0.4, 0.5)
        expected = [1 - np.exp(0.2 - 0.3 * number) * (weighted[number] + 0.1) for number in range(learned)]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    else:
        assert float(value) == pytest.approx(3.9)


def descend(loss, steps, rate):
    optimizer = keras.optimizers.Adam(rate)
    variables = loss.trainable_variables
    optimizer.build(variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = loss(LABELS, ROWS)
        optimizer.apply(tape.gradient(value, [variable.value for variable in variables]), variables)

    for _ in range(steps):
        step()


@pytest.mark.parametrize(("form", "weights"), [("single", [1 / 3.01]), ("uncertainty", [1 / 3.01, 1 / 0.21])])
def test_learns_weights_that_bring_each_loss_to_the_same_size(form, weights):
    loss = made(form)
    descend(loss, 400, 0.03)
    found = [float(value) for name, value in loss.scalars.items() if name.startswith("joint/weight")]
    np.testing.assert_allclose(found, weights, rtol=0.02)
    with tf.GradientTape() as tape:
        value = loss(LABELS, ROWS)
    gradients = tape.gradient(value, [variable.value for variable in loss.trainable_variables])
    np.testing.assert_allclose(gradients, 0, atol=0.02)


def test_weight_of_a_loss_that_reaches_0_stays_below_the_inverse_of_the_floor():
    loss = made("single", (0.0, 1.0))
    descend(loss, 800, 0.03)
    assert float(loss.scalars["joint/weight_part0"]) == pytest.approx(1 / FLOOR, rel=0.05)


def test_balances_classification_and_ranking_of_the_registry():
    loss = JointLoss([NormSoftmax(), SupervisedContrastive()], [1.0, 1.0], "uncertainty")
    loss.build(instances=3, dimension=8, seed=0)
    assert [variable.name for variable in loss.trainable_variables] == [
        "class_weights",
        "s_norm_softmax",
        "s_supervised_contrastive",
    ]
    assert loss.scalars == {
        "joint/s_norm_softmax": 0,
        "joint/weight_norm_softmax": 1,
        "joint/s_supervised_contrastive": 0,
        "joint/weight_supervised_contrastive": 1,
    }
    values = [float(part(LABELS, ROWS)) + FLOOR for part in loss.parts]
    assert float(loss(LABELS, ROWS)) == pytest.approx(sum(values), rel=1e-6)
    descend(loss, 200, 0.03)
    classes = loss.parts[0].trainable_variables[0].numpy()
    assert float(loss.parts[0](LABELS, ROWS)) < values[0] / 2 and np.isfinite(classes).all()
    value = float(loss.parts[1](LABELS, ROWS)) + FLOOR
    assert float(loss.scalars["joint/weight_supervised_contrastive"]) == pytest.approx(1 / value, rel=0.05)


def test_tells_what_its_parts_tell_and_owns_what_they_own():
    loss = JointLoss([ArcFace(warmup=5), BatchContrastive()], [1.0, 1.0], "single")
    assert set(loss.scalars) == {"arcface/margin"}  # before `build`
    loss.build(instances=3, dimension=8, seed=0)
    assert set(loss.scalars) == {"arcface/margin", "joint/s_arcface", "joint/weight_arcface"}
    assert [v.name for v in loss.variables] == ["class_weights", "s_arcface", "calls"]
    assert [v.name for v in loss.non_trainable_variables] == ["calls"]


def test_a_free_lambda_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="gradient L1 - L2 drives lambda to 0 or 1") as refusal:
        made("lambda")
    assert str(refusal.value).count(".") == 1 and "single or uncertainty is wanted" in str(refusal.value)
    share = 0.5  # what the sentence says: two losses that do not change, and plain descent
    for _ in range(1000):
        share = min(1.0, max(0.0, share - 0.01 * (3.0 - 2.9)))
    assert share == 0


def test_other_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="the joint form learned is unknown; one of fixed, single, uncertainty"):
        made("learned")
    with pytest.raises(ValueError, match="2 losses and 1 weights"):
        made("single", weights=[1.0])
    with pytest.raises(ValueError, match="proxy_nca may be negative"):
        JointLoss([BatchContrastive(), ProxyNCA()], [1.0, 1.0], "uncertainty")
    JointLoss([BatchContrastive(), ProxyNCA()], [1.0, 1.0], "single")
    JointLoss([ProxyNCA()], [1.0], "fixed")


@pytest.mark.parametrize("form", FORMS)
def test_configuration_makes_an_equal_loss(form):
    loss = JointLoss([NormSoftmax(scale=20.0), BatchContrastive(0.6)], [1.0, 0.5], form, floor=0.2, name="own")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is JointLoss and again.get_config() == loss.get_config()
    assert (again.form, again.floor, again.weights) == (form, 0.2, [1.0, 0.5])
    assert again.parts[0].scale == 20.0 and again.parts[1].margin == 0.6
    for part in (loss, again):
        part.build(instances=3, dimension=8, seed=4)
    assert float(again(LABELS, ROWS)) == float(loss(LABELS, ROWS))
