import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import BatchHardTriplet, TupleTriplet, pairs
from tfretrieval.losses.triplet import MARGIN, batch_hard_triplet, tuple_triplet

from .checks import assert_is_the_loop


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


@pytest.mark.parametrize("metric", ["L2", "angular"])
def test_other_distances_equal_the_loops(metric):
    of_squared = {"L2": np.sqrt, "angular": lambda value: value / 2}[metric]  # 1 - cos is half the squared distance

    def tuples_loop(tuples):
        units = tuples / np.linalg.norm(tuples, axis=-1, keepdims=True) if metric == "angular" else tuples
        gaps = lambda q, p, n: of_squared(squared(q, p)) - of_squared(squared(q, n))  # noqa: E731
        return [sum(max(0.0, gaps(q, p, n) + 0.4) for n in negatives) for q, p, *negatives in units]

    assert_is_the_loop(lambda x: tuple_triplet(x, 0.4, metric), tuples_loop, random_units(3, 5, 4))
    rows, losses = random_units(8, 4), []
    for i in range(8):
        matches, others = (
            [of_squared(squared(rows[i], rows[j])) for j in range(8) if j != i and (j // 2 == i // 2) == same]
            for same in (True, False)
        )
        losses.append(max(0.0, max(matches) - min(others) + 0.4))
    found = batch_hard_triplet(rows, np.arange(8) // 2, 0.4, metric)
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-5)


def test_photos_without_both_kinds_of_pairs_count_only_on_request():
    rows, labels = random_units(3, 4), [0, 0, 1]
    to = [[squared(a, b) for b in rows] for a in rows]
    losses = [to[0][1] - to[0][2] + 2, to[1][0] - to[1][2] + 2, 0 - min(to[2][0], to[2][1]) + 2]
    assert float(batch_hard_triplet(rows, labels, 2.0)) == pytest.approx(np.mean(np.maximum(losses[:2], 0)), rel=1e-5)
    every = float(batch_hard_triplet(rows, labels, 2.0, complete_only=False))
    assert every == pytest.approx(np.mean(np.maximum(losses, 0)), rel=1e-5)


def test_photos_of_a_memory_count_as_those_of_the_batch():
    rows, labels = random_units(12, 3), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4])
    memory = pairs.Memory(np.concatenate([rows[9:], np.zeros((2, 3), np.float32)]), np.array([3, 4, 4, -1, -1]))
    found = float(batch_hard_triplet(rows[:9], labels[:9], 1.0, memory=memory))
    losses = []
    for i in range(9):
        matches = [squared(rows[i], rows[j]) for j in range(12) if j != i and labels[j] == labels[i]]
        others = [squared(rows[i], rows[j]) for j in range(12) if labels[j] != labels[i]]
        losses.append(max(0.0, max(matches) - min(others) + 1.0))
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


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
