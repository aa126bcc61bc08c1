import numpy as np
import pytest
import tensorflow as tf

from tfretrieval import losses
from tfretrieval.losses.classification import ClassificationLoss, cosines, cross_entropy

from .checks import random_units

OWNERS = [name for name, kind in losses.LOSSES.items() if issubclass(kind, ClassificationLoss)]
LABELS = np.array([0, 3, 1, 1, 2, 0])


def test_cosines_do_not_depend_on_the_length_of_weights():
    rows, weights = random_units(5, 4), random_units(3, 4, seed=1)
    expected = [[float(row.astype(float) @ weight) for weight in weights] for row in rows]
    for length in (1.0, 1e-3, 50.0):
        np.testing.assert_allclose(cosines(rows, length * weights), expected, rtol=1e-4, atol=1e-6)


def test_cross_entropy_by_hand():
    logits = np.log(np.array([[1, 2, 1], [3, 1, 4]], np.float32))
    assert float(cross_entropy(logits, [1, 0])) == pytest.approx((np.log(2) + np.log(8 / 3)) / 2)


def test_registry_has_the_classification_losses():
    assert set(OWNERS) == {"arcface", "cosface", "norm_softmax", "proxy_anchor", "proxy_nca", "softmax"}


@pytest.mark.parametrize("name", OWNERS)
def test_class_weights_are_the_losses_own_unit_vectors_drawn_from_the_seed(name):
    first, same, other = (losses.LOSSES[name]() for _ in range(3))
    assert first.variables == []
    for loss, seed in ((first, 5), (same, 5), (other, 6)):
        loss.build(instances=7, dimension=3, seed=seed)
    weights = first.trainable_variables[0].numpy()
    assert weights.shape == (7, 3) and all(variable.trainable for variable in first.trainable_variables)
    np.testing.assert_allclose(np.linalg.norm(weights, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(weights, same.trainable_variables[0].numpy())
    assert (weights != other.trainable_variables[0].numpy()).any()


@pytest.mark.parametrize("name", OWNERS)
def test_gradient_of_what_is_owned_is_that_of_finite_differences(name):
    loss, rows = losses.LOSSES[name](), random_units(6, 4)
    loss.build(instances=5, dimension=4, seed=1)
    for variable in loss.trainable_variables:
        with tf.GradientTape() as tape:
            value = loss(LABELS, rows)
        found, start = tape.gradient(value, variable.value).numpy(), variable.numpy()
        assert np.isfinite(found).all() and np.abs(found).max() > 1e-4
        direction = np.random.default_rng(0).normal(size=start.shape).astype(np.float32)
        ends = []
        for step in (1e-3, -1e-3):
            variable.assign(start + step * direction)
            ends.append(float(loss(LABELS, rows)))
        variable.assign(start)
        assert np.sum(found * direction) == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=0.01, abs=2e-3)


@pytest.mark.parametrize("name", OWNERS)
def test_descriptors_on_and_opposite_to_their_weights_have_a_finite_gradient(name):
    loss = losses.LOSSES[name]()
    loss.build(instances=4, dimension=4, seed=1)
    weights = loss.trainable_variables[0].numpy()
    for rows in (weights, -weights, np.eye(4, dtype=np.float32)):
        rows = tf.constant(rows)
        with tf.GradientTape() as tape:
            tape.watch(rows)
            value = loss(np.arange(4), rows)
        gradients = tape.gradient(value, [rows, *(variable.value for variable in loss.trainable_variables)])
        assert np.isfinite(value) and all(np.isfinite(gradient).all() for gradient in gradients)
