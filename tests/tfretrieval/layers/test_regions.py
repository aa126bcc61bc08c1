import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfretrieval.layers.regions import reduce_regions, region_grid


def spans(grid):
    """(row starts, column starts, side, whether they count) of each level, as lists and ints."""
    return [
        (
            np.asarray(level.rows)[:, 0].tolist(),
            np.asarray(level.columns)[:, 0].tolist(),
            np.asarray(level.rows).shape[1],
            bool(level.counts),
        )
        for level in grid
    ]


def in_float32(height, width):
    """The same numbers with the 32-bit arithmetic of the GeM paper's code: regions more along the long side, starts."""
    short, long = np.float32(min(height, width)), np.float32(max(height, width))
    steps = (long - short) / np.arange(1, 7, dtype=np.float32)
    more = int(np.argmin(np.abs((short**2 - short * steps) / short**2 - np.float32(0.4)))) + 1
    starts = []
    for level in (1, 2, 3):
        side, count = int(2 * short // (level + 1)), level + more
        half = np.float32(np.floor(side / 2 - 1))
        step = np.float32((float(long) - side) / (count - 1))
        starts.append((np.floor(half + np.arange(count, dtype=np.float32) * step) - half).astype(int).tolist())
    return starts


def test_a_square_map_has_1_4_and_9_regions():
    assert spans(region_grid(6, 6)) == [
        ([0], [0], 6, True),
        ([0, 2], [0, 2], 4, True),
        ([0, 1, 3], [0, 1, 3], 3, True),
    ]


def test_the_long_side_has_more_regions_whose_overlap_is_nearest_to_40_percent():
    # 24 x 32, a photo of 768 x 1024 at stride 32: two squares of 24 overlap by 16 / 24, three by 20 / 24.
    assert spans(region_grid(24, 32)) == [
        ([0], [0, 8], 24, True),
        ([0, 8], [0, 8, 16], 16, True),
        ([0, 6, 12], [0, 6, 13, 20], 12, True),
    ]
    # 10 x 24: steps of 14, 7, 14/3, ... leave overlaps of -40 %, 30 %, 53 %, ...
    rows, columns, side, _ = spans(region_grid(10, 24))[0]
    assert (rows, columns, side) == ([0], [0, 7, 14], 10)


def test_height_and_width_change_places():
    for (rows, columns, *rest), turned in zip(spans(region_grid(5, 17)), spans(region_grid(17, 5)), strict=True):
        assert turned == (columns, rows, *rest)


@pytest.mark.parametrize(("size", "levels"), [((1, 1), 1), ((1, 9), 1), ((2, 2), 3), ((2, 5), 3)])
def test_levels_whose_regions_would_have_no_position_do_not_count(size, levels):
    assert [counts for *_, counts in spans(region_grid(*size))] == [True] * levels + [False] * (3 - levels)


def test_regions_reach_from_edge_to_edge_and_not_beyond():
    for height in range(1, 20):
        for width in range(1, 20):
            for level in region_grid(height, width):
                for places, length in ((level.rows, height), (level.columns, width)):
                    assert places.min() == 0 and (places.max() == length - 1 or len(places) == 1)
                    assert (np.diff(places, axis=1) == 1).all() and places.max() < length


def test_oblong_sizes_where_the_papers_code_rounds_differently_are_few_and_very_long():
    sizes = [(short, long) for short in range(1, 101) for long in range(short + 1, 101)]
    differing = []
    for size in sizes:
        ours = [columns for _, columns, _, counts in spans(region_grid(*size)) if counts]
        if ours != in_float32(*size)[: len(ours)]:
            differing.append(size)
    assert len(differing) == 23
    assert [size for size in differing if size[1] <= 3 * size[0]] == [(25, 61)]


def test_the_grid_is_the_same_when_sizes_are_tensors():
    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)] * 2)
    def traced(height, width):
        return [(level.rows, level.columns, level.counts) for level in region_grid(height, width)]

    for size in ((6, 6), (24, 32), (31, 7), (1, 9), (25, 61), (60, 100)):
        for found, level in zip(traced(*size), region_grid(*size), strict=True):
            np.testing.assert_array_equal(found[0], level.rows)
            np.testing.assert_array_equal(found[1], level.columns)
            assert bool(found[2]) == bool(level.counts)


def test_reducing_by_the_sum_counts_each_regions_positions():
    maps = np.random.default_rng(0).random((2, 7, 12, 3)).astype(np.float32)
    for level in region_grid(7, 12):
        found = keras.ops.convert_to_numpy(reduce_regions(maps, level, ops.sum))
        for r, rows in enumerate(level.rows):
            for q, columns in enumerate(level.columns):
                expected = maps[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].sum(axis=(1, 2))
                np.testing.assert_allclose(found[:, r, q], expected, rtol=1e-5)
