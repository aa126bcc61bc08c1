import numpy as np
import pytest

from tfretrieval.layers import RMAC
from tfretrieval.layers.rmac import rmac


def test_by_hand_on_a_map_of_two_positions():
    # The whole map and, at level 1, squares of one position: three, by whose overlap of 1/2, at 0, floor(1/2) and 1.
    # Levels 2 and 3 would have squares of side 0.
    maps = np.array([[[[3.0, 0.0], [0.0, 4.0]]]], np.float32)
    np.testing.assert_allclose(rmac(maps), [[3 / 5 + 2, 4 / 5 + 1]], rtol=1e-6)


@pytest.mark.parametrize(("size", "regions"), [((6, 6), 14), ((24, 32), 20), ((1, 9), 7)])
def test_equal_activations_count_the_regions_and_the_whole_map(size, regions):
    pooled = rmac(np.full((1, *size, 4), 2.5, np.float32))
    np.testing.assert_allclose(pooled, np.full((1, 4), (regions + 1) / 2), rtol=1e-6)


def test_regions_count_alike_however_strong_they_are():
    maps = np.zeros((1, 6, 6, 2), np.float32)
    maps[0, 0, 0, 0] = 5.0
    before = np.asarray(RMAC()(maps))
    maps[0, 0, 0, 0] = 500.0
    np.testing.assert_allclose(RMAC()(maps), before, rtol=1e-6)
    assert before[0, 0] == 4 and before[0, 1] == 0  # the whole, and one corner region of each level
