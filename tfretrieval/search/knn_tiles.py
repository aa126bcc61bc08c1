"""Nearest neighbours tile by tile: what several processes share of `knn.neighbours`, with its very bits."""

from collections.abc import Sequence

import numpy as np

from tfretrieval.search.exact import TopK, rank_keys
from tfretrieval.search.knn import ROWS_AT_A_TIME
from tfretrieval.search.ranking import Ranking

TILE_ROWS = 16 * ROWS_AT_A_TIME


def tile_pairs(rows: int, tile_rows: int = TILE_ROWS) -> list[tuple[range, range]]:
    """Returns all pairs of tiles of a database, each pair once and each tile with itself too.

    Args:
        rows: N, rows of the database.
        tile_rows: rows of a tile.
    """
    tiles = [range(first, min(first + tile_rows, rows)) for first in range(0, rows, tile_rows)]
    return [(left, right) for place, left in enumerate(tiles) for right in tiles[place:]]


def neighbours_in_tiles(
    database: np.ndarray, left: range, right: range, k: int, rows_at_a_time: int = ROWS_AT_A_TIME
) -> tuple[Ranking, Ranking]:
    """Finds the nearest neighbours that two tiles' rows have in each other, no row being its own.

    The products are those of `knn.neighbours` with the same `rows_at_a_time`, of the same blocks in the same order of
    their two sides, so that similarities are equal to the last bit. `merge` makes one ranking of several tiles' ones.

    Args:
        database: float32 [N, D], in memory or memory-mapped.
        left: rows of a tile that begins at a multiple of `rows_at_a_time`.
        right: likewise, a later tile or the same.
        k: neighbours kept of each row, fewer where the other tile has fewer rows.
        rows_at_a_time: rows of a block.

    Returns:
        The neighbours of the left rows among the right ones, and those of the right rows among the left ones; of one
        tile with itself, the same twice. Rows are those of the database. A row itself may fill places that nothing
        else is there for, with similarity -inf.
    """
    if left.start % rows_at_a_time or right.start % rows_at_a_time or left.start > right.start:
        raise ValueError(f"tiles from rows {left.start} and {right.start}; rising multiples of {rows_at_a_time} wanted")
    lefts, rights = (range(tile.start, tile.stop, rows_at_a_time) for tile in (left, right))
    sizes = lambda firsts, tile: [min(rows_at_a_time, tile.stop - first) for first in firsts]  # noqa: E731
    of_left = [TopK(size, k) for size in sizes(lefts, left)]
    of_right = of_left if left == right else [TopK(size, k) for size in sizes(rights, right)]
    for a, first in enumerate(lefts):
        ours = np.asarray(database[first : min(first + rows_at_a_time, left.stop)])
        for b, second in enumerate(rights):
            if second < first:
                continue
            theirs = np.asarray(database[second : min(second + rows_at_a_time, right.stop)])
            block = np.matmul(ours, theirs.T)
            if first == second:
                np.fill_diagonal(block, -np.inf)
            of_left[a].add(second, block)
            if first != second:
                of_right[b].add(first, block.T)
    found = _joined(of_left)
    return found, found if left == right else _joined(of_right)


def merge(rankings: Sequence[Ranking], k: int) -> Ranking:
    """Returns the k best of several rankings of the same rows, of equal similarities the lower row first.

    Args:
        rankings: each [R, K] of its own K, of different rows of a database.
        k: at most all of their K together.
    """
    similarity = np.concatenate([ranking.similarity for ranking in rankings], axis=1)
    order = np.concatenate([ranking.order for ranking in rankings], axis=1)
    best = np.argsort(rank_keys(similarity, order.astype(np.int64)), axis=1)[:, ::-1][:, :k]
    return Ranking(np.take_along_axis(order, best, axis=1), np.take_along_axis(similarity, best, axis=1))


def _joined(tops: Sequence[TopK]) -> Ranking:
    """Puts the rankings of blocks one below the other."""
    rankings = [top.ranking() for top in tops]
    return Ranking(*(np.concatenate([getattr(part, name) for part in rankings]) for name in ("order", "similarity")))
