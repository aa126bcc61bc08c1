import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.layers import masking


def test_vectors_get_length_1_and_a_zero_vector_stays_with_a_finite_gradient():
    vectors = tf.constant([[3.0, 4.0], [0.0, 0.0], [-1e-3, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        unit = masking.unit_length(vectors)
        total = tf.reduce_sum(unit * [[1.0, 2.0]])
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0.0, 0.0], [-1.0, 0.0]], rtol=1e-6)
    gradient = tape.gradient(total, vectors).numpy()
    assert np.isfinite(gradient).all()
    # (g - (g . u) u) / length
    np.testing.assert_allclose(gradient[0], (np.array([1, 2]) - 2.2 * np.array([0.6, 0.8])) / 5, rtol=1e-5)


def test_what_is_masked_is_zero_and_gets_no_gradient():
    maps = tf.constant([[[1.0], [np.nan], [3.0]]])
    with tf.GradientTape() as tape:
        tape.watch(maps)
        prepared, mask = masking.prepare(maps, np.array([[1, 0, 1]]))
        total = tf.reduce_sum(prepared**2)
    np.testing.assert_array_equal(prepared[0, :, 0], [1.0, 0.0, 3.0])
    np.testing.assert_array_equal(mask, [[[True], [False], [True]]])
    np.testing.assert_array_equal(tape.gradient(total, maps)[0, :, 0], [2.0, 0.0, 6.0])


def test_means_over_nothing_are_0():
    values, mask = np.ones((2, 3, 1), np.float32), np.array([[1, 1, 0], [0, 0, 0]], bool)[..., None]
    np.testing.assert_array_equal(masking.mean(values, mask), [[1.0], [0.0]])
    np.testing.assert_array_equal(masking.zero_empty(np.full((2, 1), 7.0, np.float32), mask), [[7.0], [0.0]])


def test_halves_become_float32():
    assert masking.prepare(np.ones((1, 2, 2, 1), np.float16))[0].dtype == tf.float32


def test_a_mask_of_unknown_sides_is_taken_and_one_of_another_rank_is_refused():
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 2]), tf.TensorSpec([None, None, None], tf.bool)])
    def traced(maps, mask):
        return masking.mean(*masking.prepare(maps, mask))

    np.testing.assert_array_equal(traced(np.ones((1, 2, 3, 2), np.float32), np.ones((1, 2, 3), bool)), [[1.0, 1.0]])
    with pytest.raises(ValueError, match=r"mask has the shape \(1, 6\)"):
        masking.prepare(np.ones((1, 2, 3, 2), np.float32), np.ones((1, 6), bool))
