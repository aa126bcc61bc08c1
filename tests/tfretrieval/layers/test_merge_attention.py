import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.layers.merge_attention import MERGES, MergeAttention

BY_HAND = {"add": [2.25, -0.5, 0.5], "residual_mul": [2.5, -1.5, 0.0], "mul": [0.5, -0.5, 0.0]}
MAPS = np.array([2.0, -1.0, 0.0], np.float32).reshape(1, 1, 1, 3)
ATTENTION = np.array([0.25, 0.5, 0.5], np.float32).reshape(1, 1, 1, 3)


@pytest.mark.parametrize("how", MERGES)
@pytest.mark.parametrize(
    ("policy", "dtype"),
    [("float32", tf.float32), ("mixed_float16", tf.float16), ("mixed_bfloat16", tf.bfloat16)],
)
def test_merged_maps_equal_those_worked_by_hand(how, policy, dtype):
    merged = MergeAttention(how, dtype=policy)(MAPS, ATTENTION)
    assert merged.dtype == dtype
    np.testing.assert_array_equal(tf.cast(merged, tf.float32), np.reshape(BY_HAND[how], (1, 1, 1, 3)))


def test_saved_in_a_model_it_loads_without_custom_objects(tmp_path):
    maps, attention = keras.Input((None, None, 3)), keras.Input((None, None, 3))
    model = keras.Model([maps, attention], MergeAttention("residual_mul")(maps, attention))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.ravel(loaded([MAPS, ATTENTION])), BY_HAND["residual_mul"])


@pytest.mark.parametrize("shape", [(4, 4, 1), (1, 4, 3), (4, 1, 3)])
def test_shapes_that_would_only_broadcast_are_refused(shape):
    with pytest.raises(ValueError, match="equal are wanted"):
        MergeAttention()(keras.Input((4, 4, 3)), keras.Input(shape))


def test_sizes_that_are_not_known_yet_are_accepted():
    assert MergeAttention()(keras.Input((None, 4, 3)), keras.Input((5, None, 3))).shape == (None, None, 4, 3)


def test_unknown_merge_is_refused():
    with pytest.raises(ValueError, match="add, residual_mul, mul is wanted"):
        MergeAttention("subtract")
