import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import BatchHardTriplet, TupleTriplet
from tfretrieval.losses.triplet import MARGIN, batch_hard_triplet, tuple_triplet


def random_units(*shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def squared(a, b):
    return float(np.sum((a.astype(np.float64) - b.astype(np.float64)) ** 2))


def tuple_loop(tuples, margin):
    return [
        sum(max(0.0, squared(query, positive) - squared(query, negative) + margin) for negative in negatives)
        for query, positive, *negatives in tuples
    ]


def batch_hard_loop(rows, labels, margin):
    losses = []
    for i, anchor in enumerate(rows):
        matches = [squared(anchor, rows[j]) for j in range(len(rows)) if j != i and labels[j] == labels[i]]
        others = [squared(anchor, rows[j]) for j in range(len(rows)) if labels[j] != labels[i]]
        if matches and others:
            losses.append(max(0.0, max(matches) - min(others) + margin))
    return sum(losses) / max(1, len(losses))


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("margin", [0.1, MARGIN, 2.0])
def test_tuple_loss_equals_the_loop_for_one_and_several_tuples(count, margin):
    tuples = random_units(count, 7, 3)
    np.testing.assert_allclose(tuple_triplet(tuples, margin), tuple_loop(tuples, margin), rtol=1e-5)


def test_tuple_loss_by_hand():
    query, positive, near, far = [1, 0], [0, 1], [0.6, 0.8], [-1, 0]
    # d^2 = 2 to the positive, 0.8 and 4 to the negatives: (2 - 0.8 + 0.5) + 0
    loss = tuple_triplet(np.array([[query, positive, near, far]], np.float32), margin=0.5)
    np.testing.assert_allclose(loss, [1.7], rtol=1e-6)


@pytest.mark.parametrize("margin", [0.1, MARGIN, 2.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_batch_hard_loss_equals_the_loop(margin, seed):
    rows, labels = random_units(12, 3, seed=seed), [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4]
    expected = batch_hard_loop(rows, labels, margin)
    np.testing.assert_allclose(batch_hard_triplet(rows, labels, margin), expected, rtol=1e-5)


def test_opposite_descriptors_count_with_the_largest_distance():
    rows = np.array([[1, 0], [1, 0], [-1, 0], [-1, 0]], np.float32)
    assert float(batch_hard_triplet(rows, [0, 1, 0, 1], 0.5)) == pytest.approx(4 - 0 + 0.5)
    assert batch_hard_triplet(rows, [0, 0, 1, 1], 0.5) == 0


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [5, 5, 5, 5]])
def test_batch_without_a_triplet_costs_nothing_and_has_a_finite_gradient(labels):
    rows = tf.constant(random_units(4, 3))
    with tf.GradientTape() as tape:
        tape.watch(rows)
        loss = batch_hard_triplet(rows, labels)
    assert loss == 0
    np.testing.assert_array_equal(tape.gradient(loss, rows), 0)


def test_gradients_are_finite_at_identical_descriptors():
    rows = tf.constant(np.repeat(random_units(1, 8), 6, axis=0))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(rows)
        of_tuples = tf.reduce_sum(tuple_triplet(tf.reshape(rows, (2, 3, 8))))
        of_batch = batch_hard_triplet(rows, [0, 0, 1, 1, 2, 2])
    for loss, expected in ((of_tuples, 2 * MARGIN), (of_batch, MARGIN)):
        assert float(loss) == pytest.approx(expected, abs=1e-5)
        assert np.isfinite(tape.gradient(loss, rows)).all()


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_descriptors_are_computed_in_float32(half):
    tuples = tf.cast(random_units(2, 4, 8), half)
    rows, labels = tf.reshape(tuples, (8, 8)), [0, 0, 1, 1, 2, 2, 3, 3]
    for found, expected in (
        (tuple_triplet(tuples), tuple_triplet(tf.cast(tuples, tf.float32))),
        (batch_hard_triplet(rows, labels), batch_hard_triplet(tf.cast(rows, tf.float32), labels)),
    ):
        assert found.dtype == tf.float32
        np.testing.assert_array_equal(found, expected)


def test_keras_losses_equal_the_functions():
    tuples, rows, labels = random_units(3, 4, 5), random_units(6, 5), np.array([0, 0, 1, 1, 2, 2])
    assert float(TupleTriplet(0.9)(np.arange(12), tuples)) == pytest.approx(float(np.mean(tuple_triplet(tuples, 0.9))))
    assert float(BatchHardTriplet(0.9)(labels, rows)) == pytest.approx(float(batch_hard_triplet(rows, labels, 0.9)))


@pytest.mark.parametrize("kind", [TupleTriplet, BatchHardTriplet])
def test_configuration_survives_a_round_trip(kind):
    loss = kind(margin=0.61, name="own")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is kind and again.get_config() == loss.get_config()
    assert again.margin == 0.61 and again.name == "own"
    assert kind().margin == MARGIN == 0.5
