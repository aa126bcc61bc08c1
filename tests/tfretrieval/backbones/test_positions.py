import math

import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.backbones.positions import cubic_weights, resize_positions, rotary_angles

SIZES = [(6, 9), (3, 2), (1, 1), (16, 11), (7, 5), (40, 3)]


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_resized_table_is_that_of_pytorch(size, antialias):
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).normal(size=(7, 5, 3)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(table).permute(2, 0, 1)[None], size=size, mode="bicubic", antialias=antialias
    )
    found = resize_positions(table, *size, antialias=antialias)
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0).numpy(), atol=1e-5)


@pytest.mark.parametrize("antialias", [False, True])
def test_the_same_grid_leaves_the_table_as_it_is(antialias):
    table = np.random.default_rng(1).normal(size=(14, 9, 4)).astype(np.float32)
    np.testing.assert_array_equal(resize_positions(table, 14, 9, antialias), table)


@pytest.mark.parametrize("resized", [1, 2, 5, 31])
def test_weights_sum_to_1(resized):
    for antialias in (False, True):
        np.testing.assert_allclose(np.sum(cubic_weights(5, resized, antialias), axis=1), 1, atol=1e-6)


def test_sizes_may_be_known_only_when_a_graph_runs():
    table = np.random.default_rng(2).normal(size=(4, 4, 2)).astype(np.float32)
    traced = tf.function(
        lambda height, width: resize_positions(table, height, width), [tf.TensorSpec([], tf.int32)] * 2
    )
    np.testing.assert_allclose(traced(6, 3), resize_positions(table, 6, 3), atol=1e-6)


def test_rotary_angles_are_those_written_out_by_hand():
    height, width, dimension, theta = 3, 2, 8, 100.0
    found = np.asarray(rotary_angles(height, width, dimension, theta))
    assert found.shape == (6, 8)
    for row in range(height):
        for column in range(width):
            y, x = (row + 0.5) / height * 2 - 1, (column + 0.5) / width * 2 - 1
            waves = [1.0, theta ** (-4 / dimension)]
            half = [2 * math.pi * place * wave for place in (y, x) for wave in waves]
            np.testing.assert_allclose(found[row * width + column], half + half, rtol=1e-5, atol=1e-6)
