"""What holds for every loss of the registry: degenerate batches, half precision, graphs."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval import losses

from .checks import gradient, random_units

LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
DIMENSION = 8


def made(name):
    loss = losses.LOSSES[name]()
    if hasattr(loss, "build"):
        loss.build(instances=12, dimension=DIMENSION, seed=0)
    return loss


def shaped(name, rows):
    return rows.reshape(3, 4, DIMENSION) if name in losses.TUPLE_LOSSES else rows


def equal_pairs():
    return np.repeat(random_units(6, DIMENSION, seed=4), 2, axis=0)


ROWS = {
    "identical": np.repeat(random_units(1, DIMENSION), 12, axis=0),
    "exactly_identical": np.full((12, DIMENSION), DIMENSION**-0.5, np.float32),
    "equal_pairs": equal_pairs(),
    "opposite": np.concatenate([ROW := random_units(6, DIMENSION), -ROW]),
    "random": random_units(12, DIMENSION),
}


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("labels", [LABELS, np.zeros(12, int), np.arange(12)], ids=["some", "one_class", "no_matches"])
def test_value_and_gradient_are_finite(name, rows, labels):
    loss, descriptors = made(name), shaped(name, ROWS[rows])
    assert np.isfinite(loss(labels, descriptors))
    assert np.isfinite(gradient(lambda x: loss(labels, x), descriptors)).all()


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_descriptors_are_computed_in_float32(name, half):
    loss, rounded = made(name), tf.cast(shaped(name, ROWS["random"]), half)
    expected = loss.call(tf.constant(LABELS), tf.cast(rounded, tf.float32))
    found = loss.call(tf.constant(LABELS), rounded)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_mixed_precision_changes_nothing(name):
    loss, descriptors = made(name), shaped(name, ROWS["random"])
    expected, policy = float(loss(LABELS, descriptors)), keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        assert float(made(name)(LABELS, descriptors)) == expected
    finally:
        keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_graphs_take_batches_of_any_size(name):
    loss, descriptors = made(name), shaped(name, ROWS["random"])
    shape = [None, *descriptors.shape[1:]]
    graph = tf.function(loss, input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec(shape)])
    assert float(graph(LABELS, descriptors)) == pytest.approx(float(loss(LABELS, descriptors)), rel=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_gradient_step_lowers_the_loss(name):
    loss, descriptors = made(name), shaped(name, ROWS["random"])
    slope = gradient(lambda x: loss(LABELS, x), descriptors)
    assert np.abs(slope).max() > 0
    lower = descriptors - 1e-3 * slope / np.linalg.norm(slope)
    assert float(loss(LABELS, lower)) < float(loss(LABELS, descriptors))


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_argument_of_the_constructor_is_in_the_configuration(name):
    arguments = set(inspect.signature(losses.LOSSES[name].__init__).parameters) - {"self", "kwargs"}
    assert arguments <= set(losses.LOSSES[name]().get_config())
