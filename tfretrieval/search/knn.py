"""The nearest neighbours of a database's rows among the other rows, in bounded memory: never an N x N matrix."""

import concurrent.futures

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.search.exact import Progress, TopK, check_descriptors, search_top, told
from tfretrieval.search.ranking import Ranking

# A product of two blocks of so many rows takes 64 MB, and is large enough for a matrix product's full speed.
ROWS_AT_A_TIME = 4096


def neighbours(
    database: np.ndarray, k: int, progress: Progress | None = None, rows_at_a_time: int = ROWS_AT_A_TIME
) -> Ranking:
    """Finds the k rows of a database that are most similar to each of its rows, the row itself left out, exactly.

    Each pair of blocks is multiplied once and serves both, so this takes N^2 * D multiplications rather than 2 N^2 * D
    operations; the best are picked in threads while the next pair is multiplied. Deterministic; of equal similarities
    the lower row comes first.

    Memory beside the database: 16 * N * k bytes at the end (8 of them the result) and three blocks of
    4 * rows_at_a_time^2 bytes, 64 MB each.

    Args:
        database: float32 [N, D], in memory or memory-mapped.
        k: neighbours of each row; all N - 1 others where there are fewer.
        progress: makes a progress bar, as `console.progress`.
        rows_at_a_time: rows of a block.

    Returns:
        `Ranking`, order and similarity [N, min(k, N - 1)].

    Raises:
        InputError: not float32 [N, D], fewer than two rows, k below 1, or a similarity is not a number.
    """
    k = checked_k(database, k)
    starts = range(0, len(database), rows_at_a_time)
    best = [TopK(len(database[first : first + rows_at_a_time]), k) for first in starts]
    pairs = [(a, b) for a in range(len(starts)) for b in range(a, len(starts))]
    held = [np.empty(rows_at_a_time**2, np.float32) for _ in range(2)]
    waiting: list[concurrent.futures.Future] = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for turn, (a, b) in enumerate(told(pairs, progress, "neighbours", len(pairs), "block")):
            left, right = (np.asarray(database[starts[at] : starts[at] + rows_at_a_time]) for at in (a, b))
            block = held[turn % 2][: len(left) * len(right)].reshape(len(left), len(right))
            np.matmul(left, right.T, out=block)
            if a == b:
                np.fill_diagonal(block, -np.inf)
            for done in waiting:  # both what this block is written over next and the order of blocks depend on it
                done.result()
            waiting = [pool.submit(best[a].add, starts[b], block)]
            if a != b:
                waiting.append(pool.submit(best[b].add, starts[a], block.T))
        for done in waiting:
            done.result()
    order, similarity = np.empty((len(database), k), np.int32), np.empty((len(database), k), np.float32)
    for first in starts:
        found = best.pop(0).ranking()
        order[first : first + rows_at_a_time] = found.order
        similarity[first : first + rows_at_a_time] = found.similarity
    return Ranking(order, similarity)


def neighbours_of(rows: np.ndarray, database: np.ndarray, k: int, progress: Progress | None = None) -> Ranking:
    """Finds what `neighbours` does, for some of the rows.

    Memory beside the database: that of `search_top`, and 4 * D bytes for each of the rows.

    Args:
        rows: int [R], rows of the database.
        database: see `neighbours`.
        k: see `neighbours`.
        progress: see `neighbours`.

    Returns:
        `Ranking`, order and similarity [R, min(k, N - 1)].

    Raises:
        InputError: see `neighbours`.
    """
    k = checked_k(database, k)
    return search_top(np.asarray(database[rows]), database, k, progress, junk=np.asarray(rows)[:, None])


def checked_k(database: np.ndarray, k: int) -> int:
    """Returns how many neighbours there are to be found of each row.

    Raises:
        InputError: see `neighbours`.
    """
    check_descriptors(database[:0], database)
    if k < 1 or len(database) < 2:
        raise InputError(
            f"{k} neighbours among {len(database)} database photos are asked for; at least 1 and 2 are wanted."
        )
    return min(k, len(database) - 1)
