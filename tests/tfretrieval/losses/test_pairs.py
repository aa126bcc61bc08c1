import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import pairs


def random_units(*shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def test_root_is_the_square_root_with_gradient_0_at_0():
    squared = tf.constant([0.0, 1e-13, 1e-8, 0.25, 4.0])
    with tf.GradientTape() as tape:
        tape.watch(squared)
        roots = pairs.root(squared)
    np.testing.assert_allclose(roots, [0, 0, 1e-4, 0.5, 2], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(roots, squared), [0, 0, 0.5e4, 1, 0.25], rtol=1e-6)


def test_tuple_distances_are_those_of_each_tuples_own_query():
    tuples = random_units(4, 5, 8)
    positive, negatives = pairs.tuple_distances(tuples)
    assert positive.shape == (4,) and negatives.shape == (4, 3)
    for t in range(4):
        distances = [sum((tuples[t, 0].astype(float) - other) ** 2) for other in tuples[t, 1:].astype(float)]
        np.testing.assert_allclose(positive[t], distances[0], rtol=1e-5)
        np.testing.assert_allclose(negatives[t], distances[1:], rtol=1e-5)


def test_all_squared_distances_equal_the_loop_and_are_never_negative():
    rows = random_units(6, 16)
    rows[3] = rows[1]
    found = np.asarray(pairs.all_squared_distances(rows))
    for i in range(6):
        for j in range(6):
            expected = sum((rows[i].astype(float) - rows[j].astype(float)) ** 2)
            assert found[i, j] == pytest.approx(expected, abs=1e-6)
    assert (found >= 0).all()


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_masks_tell_matching_pairs_from_the_others(dtype, shape):
    labels = [3, 1, 3, 7, 1, 3]
    matching, other = map(np.asarray, pairs.pair_masks(np.array(labels, dtype).reshape(shape)))
    for i in range(6):
        for j in range(6):
            assert matching[i, j] == (labels[i] == labels[j] and i != j)
            assert other[i, j] == (labels[i] != labels[j])


def test_mean_over_a_mask_is_0_where_nothing_is_chosen():
    values = np.array([[1.0, 2.0], [3.0, 5.0]], np.float32)
    assert pairs.mean_over(values, np.array([[1, 0], [0, 1]], np.float32)) == 3.0
    assert pairs.mean_over(values, np.zeros((2, 2), np.float32)) == 0.0


def test_masked_extremes_and_sums_of_each_row_and_of_rows_without_a_choice():
    values = np.array([[3.0, -1.0, 7.0], [2.0, 5.0, 4.0]], np.float32)
    mask = np.array([[1, 1, 0], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(pairs.masked_max(values, mask), [3, 2])
    np.testing.assert_allclose(pairs.masked_min(values, mask), [-1, 5])
    found = np.asarray(pairs.masked_logsumexp(values, mask))
    assert found[0] == pytest.approx(np.log(np.exp(3) + np.exp(-1))) and found[1] == -1e9


def test_with_a_memory_the_columns_are_the_batch_and_then_the_memory():
    rows, kept = random_units(4, 8), random_units(3, 8, seed=1)
    labels, kept_labels = [3, 1, 3, -1], [3, -1, 1]  # of the memory, -1 is an empty place; of the batch, an instance
    memory = pairs.Memory(kept, np.array(kept_labels, np.int32))
    everyone, every_label = np.concatenate([rows, kept]), labels + kept_labels
    similarity = np.asarray(pairs.similarities(rows, memory))
    squared = np.asarray(pairs.all_squared_distances(rows, memory))
    for dtype in (np.int64, np.float32):
        matching, other = map(np.asarray, pairs.pair_masks(np.array(labels, dtype), memory))
        for i in range(4):
            for j in range(7):
                empty = j >= 4 and every_label[j] == -1
                assert matching[i, j] == (labels[i] == every_label[j] and i != j and not empty)
                assert other[i, j] == (labels[i] != every_label[j] and not empty)
                assert similarity[i, j] == pytest.approx(float(rows[i].astype(float) @ everyone[j]), abs=1e-6)
                assert squared[i, j] == pytest.approx(np.sum((rows[i] - everyone[j]) ** 2), abs=1e-5)


def test_no_gradient_flows_to_a_memory():
    rows, kept = tf.constant(random_units(4, 8)), tf.constant(random_units(3, 8, seed=1))
    with tf.GradientTape() as tape:
        tape.watch([rows, kept])
        total = tf.reduce_sum(pairs.similarities(rows, pairs.Memory(kept, tf.constant([0, 1, 2]))))
    of_rows, of_kept = tape.gradient(total, [rows, kept])
    assert of_kept is None
    # Each row is on both sides of the batch's part, and on one side of the memory's.
    expected = 2 * np.sum(rows, axis=0) + np.sum(kept, axis=0)
    np.testing.assert_allclose(of_rows, np.tile(expected, (4, 1)), rtol=1e-4, atol=1e-6)
