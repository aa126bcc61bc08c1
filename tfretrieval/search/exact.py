"""Exact search of databases of any size: similarities in blocks by matrix products, and the best k kept of them.

The database may be a memory-mapped file. No more of it than a block is worked on at a time, so memory beside the mapped
file and the result does not grow with it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.search.ranking import Ranking

T = TypeVar("T")

# Makes a progress bar around an iterable from (items, description, total, unit), as `tfretrieval.console.progress`.
Progress = Callable[[Iterable, str, int | None, str], Iterable]

# Products in a block: 2**24 float32 take 64 MB. Fewer database rows than 4,096 a product, or query rows beyond a few
# thousand, make the matrix product slower.
_SCORES_AT_A_TIME = 2**24
_QUERIES_AT_A_TIME = 4096
_ROWS_AT_A_TIME = 65_536
_NONE = np.iinfo(np.int64).min  # the key of a place that is not filled yet


def told(items: Iterable[T], progress: Progress | None, description: str, total: int, unit: str) -> Iterable[T]:
    """Returns `items` behind a progress bar, or as they are where `progress` is None."""
    return items if progress is None else progress(items, description, total, unit)


def rows_for(queries: int) -> int:
    """Returns how many database rows are compared at a time with that many queries, for a block of about 64 MB."""
    return max(1, min(_ROWS_AT_A_TIME, _SCORES_AT_A_TIME // max(1, queries)))


def similarity_blocks(
    queries: np.ndarray, database: np.ndarray, rows_at_a_time: int | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Compares all queries with the database, some rows after the other, by matrix products.

    Holds one block, 4 * Q * rows_at_a_time bytes, which the next one overwrites: the caller may change it but must copy
    what it keeps. A product's last bits depend on the numbers of rows of both sides: the same call gives the same
    bits on the same machine, other blocks may differ in rounding.

    Args:
        queries: float32 [Q, D].
        database: float32 [N, D], in memory or memory-mapped.
        rows_at_a_time: n; None takes what fits about 64 MB.

    Yields:
        The first row of each block in rising order, and float32 [Q, n] dot products; the last block may be narrower.

    Raises:
        InputError: other dtypes or dimensions.
    """
    check_descriptors(queries, database)
    many = rows_at_a_time or rows_for(len(queries))
    queries = np.ascontiguousarray(queries)
    held = np.empty(len(queries) * min(many, len(database)), np.float32)
    for first in range(0, len(database), many):
        rows = np.asarray(database[first : first + many])
        block = held[: len(queries) * len(rows)].reshape(len(queries), len(rows))
        yield first, np.matmul(queries, rows.T, out=block)


def check_descriptors(queries: np.ndarray, database: np.ndarray) -> None:
    """Checks that queries can be compared with a database.

    Raises:
        InputError: one of them is not float32 [count, D], or they differ in D.
    """
    for name, vectors in (("queries", queries), ("database", database)):
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            raise InputError(
                f"the descriptors of the {name} are {vectors.dtype} of shape {vectors.shape}; float32 [N, D] is wanted."
            )
    if queries.shape[1] != database.shape[1]:
        raise InputError(
            f"the queries have {queries.shape[1]} dimensions and the database {database.shape[1]}; equal ones are "
            "wanted."
        )
    if len(database) >= 2**31:
        raise InputError(f"the database has {len(database)} rows; fewer than 2147483648 are wanted.")


class TopK:
    """Keeps the k best rows of each query while blocks of similarities pass by.

    Deterministic and exact: order is by falling similarity, of equal ones the lower row comes first. A threshold for
    each query, its k-th best so far, lets most blocks of a large database add nothing: a block then costs one
    comparison an element.

    Memory: 8 * Q * k bytes, and while a block is added about 1 byte for each of its elements and 16 for each that
    passes the threshold.

    Each candidate is one int64, its similarity's bits above its row's, arranged so that larger is better: partitions
    and sorts of these keys need no rule for ties.

    Args:
        queries: Q.
        k: rows kept for each query, at least 1.
    """

    def __init__(self, queries: int, k: int):
        if k < 1:
            raise ValueError(f"k is {k}; at least 1 is wanted.")
        self._k, self._rows = k, 0
        self._keys = np.empty((queries, 0), np.int64)
        # NaN where fewer than k rows were seen: nothing is smaller than it, so that everything passes.
        self._thresholds = np.full(queries, np.nan, np.float32)

    def add(self, first_row: int, block: np.ndarray) -> None:
        """Takes in the similarities of further rows.

        Args:
            first_row: the database row of the block's first column; not before the end of the last block.
            block: float32 [Q, n]; -inf is a similarity as others are.

        Raises:
            ValueError: the block is of other queries, or not behind the last one.
            InputError: a similarity is not a number.
        """
        if len(block) != len(self._keys) or first_row < self._rows:
            raise ValueError(
                f"a block of {len(block)} queries from row {first_row}; {len(self._keys)} queries and row {self._rows} "
                "or later are wanted."
            )
        self._rows = first_row + block.shape[1]
        queries, columns = _places(self._passing(block))
        if len(queries):
            found = block[queries, columns]
            if np.isnan(found).any():
                row = first_row + columns[np.isnan(found)][0]
                raise InputError(f"a similarity to database row {row} is not a number; are the descriptors finite?")
            self._merge(queries, rank_keys(found, columns + first_row))

    def ranking(self) -> Ranking:
        """Returns the best rows so far: [Q, min(k, rows seen)]."""
        order = np.sort(self._keys, axis=1)[:, ::-1]
        return Ranking(*_rows_and_similarities(order))

    def _passing(self, block: np.ndarray) -> np.ndarray:
        """Returns bool [Q, n]: what may belong to the best, and perhaps more."""
        if self._keys.shape[1] == self._k or block.shape[1] <= self._k:
            worse = block <= self._thresholds[:, None]
            return np.logical_not(worse, out=worse)
        least = np.partition(block, block.shape[1] - self._k, axis=1)[:, -self._k]
        worse = block < least[:, None]
        return np.logical_not(worse, out=worse)

    def _merge(self, queries: np.ndarray, keys: np.ndarray) -> None:
        """Puts keys, int64 [P], with their queries, rising, among the kept ones."""
        counts = np.bincount(queries, minlength=len(self._keys))
        changed = np.flatnonzero(counts) if self._keys.shape[1] == self._k else np.arange(len(self._keys))
        starts = np.cumsum(counts) - counts
        wide = np.full((len(changed), self._keys.shape[1] + counts.max()), _NONE)
        wide[:, : self._keys.shape[1]] = self._keys[changed]
        place = np.empty(len(self._keys), np.int64)
        place[changed] = np.arange(len(changed))
        wide[place[queries], self._keys.shape[1] + np.arange(len(keys)) - starts[queries]] = keys
        if wide.shape[1] > self._k:
            wide.partition(wide.shape[1] - self._k, axis=1)
            wide = wide[:, -self._k :]
        if self._keys.shape[1] < self._k:
            self._keys = np.ascontiguousarray(wide)
        else:
            self._keys[changed] = wide
        if self._keys.shape[1] == self._k:
            self._thresholds[changed] = _rows_and_similarities(wide.min(axis=1))[1]


def search_top(
    queries: np.ndarray,
    database: np.ndarray,
    k: int,
    progress: Progress | None = None,
    junk: Sequence[np.ndarray] | None = None,
) -> Ranking:
    """Finds the k most similar rows of each query, exactly.

    Deterministic; of equal similarities the lower row comes first. Memory beside the database and the result: about
    150 MB, and 40 bytes for each row kept for the queries that are searched together: at most 4,096, and no more than
    keep 33 million rows, 1.3 GB, in full rankings of large databases.

    Args:
        queries: float32 [Q, D].
        database: float32 [N, D], in memory or memory-mapped.
        k: rows wanted for each query; all of them where the database has fewer.
        progress: makes a progress bar, as `console.progress`.
        junk: for each query, int rows of the database that come last, after all others, with similarity -inf and in
            rising order.

    Returns:
        `Ranking` with K = min(k, N).

    Raises:
        InputError: see `check_descriptors`; k below 1; a similarity is not a number.
    """
    check_descriptors(queries, database)
    if k < 1:
        raise InputError(f"{k} most similar photos are asked for; at least 1 is wanted.")
    k = min(k, len(database))
    if junk is not None and len(junk) != len(queries):
        raise InputError(
            f"junk rows of {len(junk)} queries stand beside {len(queries)} queries; one set each is wanted."
        )
    order = np.empty((len(queries), k), np.int32)
    similarity = np.empty((len(queries), k), np.float32)
    many = max(1, min(_QUERIES_AT_A_TIME, 2 * _SCORES_AT_A_TIME // max(k, 1)))
    parts = range(0, len(queries), many)
    for start in told(parts, progress if len(parts) > 1 else None, "search", len(parts), "part"):
        part = slice(start, start + many)
        left_out = None if junk is None else junk[part]
        found = _search_part(queries[part], database, k, progress if len(parts) == 1 else None, left_out)
        order[part], similarity[part] = found.order, found.similarity
    return Ranking(order, similarity)


def _search_part(queries, database, k, progress, junk) -> Ranking:
    """Searches for few enough queries."""
    many = rows_for(len(queries))
    top = TopK(len(queries), k)
    left_out = None if junk is None else JunkPairs(junk, len(database))
    blocks = similarity_blocks(queries, database, many)
    for first, block in told(blocks, progress, "search", -(-len(database) // many), "block"):
        if left_out is not None:
            left_out.mask(first, block)
        top.add(first, block)
    return top.ranking()


class JunkPairs:
    """Rows that do not count, by query, ready to be struck out of blocks of similarities.

    Args:
        junk: for each query, int rows of the database.
        database: number of its rows.

    Raises:
        InputError: a row is not in the database.
    """

    def __init__(self, junk: Sequence[np.ndarray], database: int):
        rows = np.concatenate([np.zeros(0, np.int64), *(np.asarray(own, np.int64).ravel() for own in junk)])
        if len(rows) and (rows.min() < 0 or rows.max() >= database):
            wrong = rows[(rows < 0) | (rows >= database)][0]
            raise InputError(f"junk row {wrong} is not in the database of {database} photos.")
        order = np.argsort(rows, kind="stable")
        self._rows, self._queries = rows[order], np.repeat(np.arange(len(junk)), [len(own) for own in junk])[order]

    def mask(self, first_row: int, block: np.ndarray) -> None:
        """Sets the similarities of junk in a block, float32 [Q, n], to -inf."""
        here = slice(*np.searchsorted(self._rows, [first_row, first_row + block.shape[1]]))
        block[self._queries[here], self._rows[here] - first_row] = -np.inf


def _places(marked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows, rising, and columns of what is true in bool [Q, n]."""
    if marked.flags.c_contiguous:
        return np.divmod(np.flatnonzero(marked), max(1, marked.shape[1]))
    # A transposed block is read in the order it lies in memory, 50 times faster than across.
    columns, rows = np.divmod(np.flatnonzero(marked.T), max(1, marked.shape[0]))
    order = np.argsort(rows, kind="stable")
    return rows[order], columns[order]


def rank_keys(similarities: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns int64 keys, larger for larger similarities, float32, and of equal ones for lower rows."""
    bits = (similarities + np.float32(0)).view(np.int32)  # -0 becomes 0, which it equals
    # The bits of negative floats rise as the numbers fall.
    rising = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    return (rising << 32) | (0xFFFFFFFF - rows)


def _rows_and_similarities(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what keys were made of: int32 rows and float32 similarities."""
    rising = (keys >> 32).astype(np.int32)
    bits = np.where(rising < 0, rising ^ np.int32(0x7FFFFFFF), rising)
    return (0xFFFFFFFF - (keys & 0xFFFFFFFF)).astype(np.int32), bits.view(np.float32)
