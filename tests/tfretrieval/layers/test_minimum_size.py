import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.layers import MinimumSize


@pytest.mark.parametrize("size", [(32, 40), (5, 40), (40, 5), (1, 1), (31, 31)])
def test_known_and_unknown_sizes_give_the_same(size):
    photos = np.random.default_rng(0).uniform(0, 255, (2, *size, 3)).astype(np.float32)
    rows, columns = (np.minimum(np.arange(max(side, 32)), side - 1) for side in size)
    expected = photos[:, rows][:, :, columns]
    layer = MinimumSize()
    known = tf.function(layer, input_signature=[tf.TensorSpec(photos.shape)])
    unknown = tf.function(layer, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for function in (layer, known, unknown):
        np.testing.assert_array_equal(function(tf.constant(photos)), expected)
    assert known.get_concrete_function().structured_outputs.shape == expected.shape
    assert not any(op.type in ("If", "StatelessIf") for op in known.get_concrete_function().graph.get_operations())
