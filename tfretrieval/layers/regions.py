"""The grid of square regions over which R-MAC and its relatives pool."""

import dataclasses

from keras import ops

from tfretrieval.layers import sizes

LEVELS = 3
# 60 is a multiple of every number of gaps between 2 to 7 regions: distances from the wished overlap stay integers.
_GAPS, _COMMON = (1, 2, 3, 4, 5, 6), 60


@dataclasses.dataclass(frozen=True)
class Level:
    """Regions of one size, R rows of Q regions; ints, or integer tensors when the maps' sides are not known.

    Attributes:
        rows: int32 [R, side], the map's rows that each row of regions covers.
        columns: int32 [Q, side], the map's columns that each column of regions covers.
        counts: whether there are such regions: their side would be at least one position.
    """

    rows: object
    columns: object
    counts: object


def region_grid(height, width, levels: int = LEVELS) -> list[Level]:
    """Lays the regions of R-MAC over a map.

    At level l = 1, 2, 3 the regions are squares of side floor(2 min(H, W) / (l + 1)). The short side has l of them and
    the long one l + m, spread evenly from edge to edge and rounded down to positions. m makes the overlap of
    neighbours at l = 1 come closest to 40 % with 2 to 7 regions along the long side; it is 0 on square maps.

    Source: Tolias, Sicre, Jegou, ICLR 2016, as in the code of Radenovic et al. Here in whole numbers, and of equal
    overlaps the fewest regions are taken; in the code 32-bit rounding decides. Of the 4,950 oblong sizes up to 100 a
    side 23 differ for it, all but 61 x 25 of them more than three times as long as wide.

    Args:
        height: positions, int or an integer tensor, >= 1.
        width: likewise.
        levels: number of sizes of regions.
    """
    numbers = sizes.numbers(height, width)
    short, excess = numbers.minimum(height, width), numbers.abs(height - width)
    gaps = numbers.array(_GAPS, dtype="int32")
    distances = numbers.abs(3 * short * gaps - 5 * excess) * (_COMMON // gaps)
    more = numbers.cast(numbers.argmin(distances), "int32") + 1
    more_rows, more_columns = numbers.where(height > width, more, 0), numbers.where(width > height, more, 0)
    grid = []
    for level in range(1, levels + 1):
        side = numbers.maximum(2 * short // (level + 1), 1)
        rows = _spans(height, side, level + more_rows, numbers)
        columns = _spans(width, side, level + more_columns, numbers)
        grid.append(Level(rows, columns, 2 * short >= level + 1))
    return grid


def _spans(length, side, count, numbers):
    """Returns the positions that each of `count` regions covers along one side, int32 [count, side]."""
    starts = numbers.arange(count) * (length - side) // numbers.maximum(count - 1, 1)
    return starts[:, None] + numbers.arange(side)[None, :]


def reduce_regions(maps, level: Level, reduce):
    """Reduces each region of a level, first along its columns' positions, then along its rows'.

    Args:
        maps: [N, H, W, C].
        level: of `region_grid`.
        reduce: function of a tensor and an axis, such as `keras.ops.max`.

    Returns:
        [N, R, Q, C].
    """
    rows = reduce(ops.take(maps, level.rows, axis=1), axis=2)
    return reduce(ops.take(rows, level.columns, axis=2), axis=3)
