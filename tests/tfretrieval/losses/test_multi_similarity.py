import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import MultiSimilarity
from tfretrieval.losses.multi_similarity import multi_similarity

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4]


def random_units(*shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def loop(rows, labels, alpha=2.0, beta=50.0, base=0.5, epsilon=0.1):
    """Wang et al. 2019, equations 11 to 14: the pairs that mining keeps, then the loss of each photo."""
    rows, total = rows.astype(np.float64), 0.0
    for i in range(len(rows)):
        matches = [rows[i] @ rows[j] for j in range(len(rows)) if j != i and labels[j] == labels[i]]
        others = [rows[i] @ rows[j] for j in range(len(rows)) if labels[j] != labels[i]]
        kept = [s for s in matches if others and s < max(others) + epsilon]
        pushed = [s for s in others if matches and s > min(matches) - epsilon]
        total += np.log(1 + sum(np.exp(-alpha * (s - base)) for s in kept)) / alpha
        total += np.log(1 + sum(np.exp(beta * (s - base)) for s in pushed)) / beta
    return total / len(rows)


@pytest.mark.parametrize("constants", [{}, {"alpha": 1.0, "beta": 10.0, "base": 0.2, "epsilon": 0.3}])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_loop(constants, seed):
    rows = random_units(12, 4, seed=seed)
    expected = loop(rows, LABELS, **constants)
    assert expected > 0
    np.testing.assert_allclose(multi_similarity(rows, LABELS, **constants), expected, rtol=1e-5)


def test_easy_pairs_are_left_out():
    rows = np.repeat(np.eye(3, dtype=np.float32), 2, axis=0)  # matches at similarity 1, others at 0
    assert multi_similarity(rows, [0, 0, 1, 1, 2, 2]) == 0


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [5, 5, 5, 5]])
def test_batch_without_both_kinds_of_pairs_costs_nothing_and_has_a_finite_gradient(labels):
    rows = tf.constant(random_units(4, 3))
    with tf.GradientTape() as tape:
        tape.watch(rows)
        loss = multi_similarity(rows, labels)
    assert loss == 0
    np.testing.assert_array_equal(tape.gradient(loss, rows), 0)


def test_value_and_gradient_are_finite_at_identical_descriptors():
    rows = np.repeat(random_units(1, 8), 6, axis=0)
    labels = [0, 0, 1, 1, 2, 2]
    variable = tf.constant(rows)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        loss = multi_similarity(variable, labels)
    np.testing.assert_allclose(loss, loop(rows, labels), rtol=1e-5)
    assert np.isfinite(tape.gradient(loss, variable)).all()


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_descriptors_are_computed_in_float32(half):
    rows = tf.cast(random_units(12, 8), half)
    found = multi_similarity(rows, LABELS)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, multi_similarity(tf.cast(rows, tf.float32), LABELS))


def test_keras_loss_equals_the_function():
    rows, labels = random_units(12, 5), np.array(LABELS)
    expected = float(multi_similarity(rows, labels, 1.0, 20.0, 0.4, 0.2))
    assert float(MultiSimilarity(1.0, 20.0, 0.4, 0.2)(labels, rows)) == pytest.approx(expected)


def test_configuration_survives_a_round_trip():
    loss = MultiSimilarity(alpha=1.5, beta=40.0, base=0.4, epsilon=0.05, name="own")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is MultiSimilarity and again.get_config() == loss.get_config()
    assert (again.alpha, again.beta, again.base, again.epsilon) == (1.5, 40.0, 0.4, 0.05)
