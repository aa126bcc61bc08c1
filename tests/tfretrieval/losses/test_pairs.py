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
