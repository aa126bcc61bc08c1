"""Exact places of a few rows in a ranking that is never made: the rows before them are counted, not sorted.

Average precision needs the places of relevant and of junk photos only. A row's place is the number of rows that come
before it, which can be counted while blocks of similarities of a memory-mapped database pass by.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tfretrieval.search.exact import JunkPairs, Progress, TopK, rank_keys, rows_for, similarity_blocks, told
from tfretrieval.search.ranking import Ranking

NOT_RANKED = -1

# Similarities kept between the two passes: 2**27 float32 take 512 MB.
_KEPT_SIMILARITIES = 2**27
_ROWS_AT_A_TIME = 32_768
_QUERIES_AT_A_TIME = 256
# With fewer queries a matrix product reads the database more slowly than it computes.
_FEW_QUERIES = 64
_LISTED_AT_A_TIME = 2**22
_MOST_BUCKETS = 16_384
_FEWEST_BUCKETS = 64
_WORTH_THREADS = 2**20
_LOWEST = np.finfo(np.float32).min


@dataclasses.dataclass(frozen=True)
class Places:
    """Where some rows of the database stand in the ranking of each query.

    Attributes:
        rows: for each of Q queries, int64 [L] rows, rising, each once.
        places: for each query, int64 [L], their places from 0; `NOT_RANKED` where a truncated ranking lacks the row.
    """

    rows: tuple[np.ndarray, ...]
    places: tuple[np.ndarray, ...]

    def of(self, query: int, rows: np.ndarray) -> np.ndarray:
        """Returns the places, rising, of those of some listed rows that the ranking holds; int64 [H].

        Args:
            query: which.
            rows: int [M], each among `self.rows[query]` and at most once.
        """
        found = self.places[query][np.searchsorted(self.rows[query], rows)]
        return np.sort(found[found != NOT_RANKED])


def places_in(ranking: Ranking, rows: Sequence[np.ndarray], database: int) -> Places:
    """Looks rows up in rankings that were made elsewhere.

    Args:
        ranking: [Q, K], no row twice for one query.
        rows: for each query, int rows of the database, rising, each once.
        database: number of its rows.
    """
    found = []
    for order, listed in zip(ranking.order, rows, strict=True):
        is_listed = np.zeros(database, bool)
        is_listed[listed] = True
        at = np.flatnonzero(is_listed[order])
        places = np.full(len(listed), NOT_RANKED, np.int64)
        places[np.searchsorted(listed, order[at])] = at
        found.append(places)
    return Places(tuple(rows), tuple(found))


def count_places(
    queries: np.ndarray,
    database: np.ndarray,
    rows: Sequence[np.ndarray],
    top: int,
    junk: Sequence[np.ndarray],
    progress: Progress | None = None,
) -> tuple[Places, Ranking]:
    """Finds the exact places of listed rows among all rows of the database, without sorting, and each query's best.

    The order is by falling similarity, of equal ones the lower row first, as in `exact_ranking`; a similarity that is
    not a number, or -inf, counts as the lowest number. Two passes over blocks of the database: the first computes the
    blocks that hold listed rows and notes their similarities, the second counts in every block the rows before each of
    them. Blocks of the first pass are kept for the second as far as they fit 512 MB, so that no product is made twice
    for databases of up to two million rows, or where listed rows stand close together (distractors behind a small
    benchmark).

    Ties are exact: one number decides for each pair of query and row, that of the block (a row's similarity computed
    apart from its block could differ in its last bits). Listed rows are ordered among themselves by the numbers noted,
    and taken out of the blocks before the others are counted, so that none is counted before itself.

    Memory beside the database and the result: at most 512 MB of kept blocks, about 40 MB for a block at work, and 40
    bytes a listed row of at most 256 queries; it does not grow with Q * N.

    Args:
        queries: float32 [Q, D].
        database: float32 [N, D], in memory or memory-mapped.
        rows: for each query, int64 [L] rows to place, rising, each once.
        top: T, the best rows wanted of each query, at most N.
        junk: for each query, rows that are left out of its best.
        progress: makes a progress bar, as `console.progress`.

    Returns:
        The places, and the best rows [Q, T]; where a query has fewer than T rows that are not junk, junk follows with
        the similarity -inf.

    Raises:
        InputError: see `check_descriptors`.
    """
    groups = list(_groups(rows, len(database)))
    bar = progress if len(groups) > 1 else None
    found, best = [], []
    for group in told(groups, bar, "searching", len(groups), "group"):
        places, ranking = _Group(queries[group], database, rows[group], junk[group], top).count(
            progress if len(groups) == 1 else None
        )
        found += places
        best.append(ranking)
    if not best:
        return Places((), ()), Ranking(np.empty((0, top), np.int32), np.empty((0, top), np.float32))
    order, similarity = (np.concatenate([getattr(part, name) for part in best]) for name in ("order", "similarity"))
    return Places(tuple(rows), tuple(found)), Ranking(order, similarity)


def _groups(rows: Sequence[np.ndarray], database: int) -> Iterator[slice]:
    """Yields runs of queries that are searched together: as many as memory and kept blocks allow."""
    fitting = _KEPT_SIMILARITIES // max(database, 1)
    most = min(fitting, _QUERIES_AT_A_TIME) if fitting >= _FEW_QUERIES else _QUERIES_AT_A_TIME
    start, listed = 0, 0
    for query, own in enumerate(rows):
        if query > start and (query - start == most or listed + len(own) > _LISTED_AT_A_TIME):
            yield slice(start, query)
            start, listed = query, 0
        listed += len(own)
    if start < len(rows):
        yield slice(start, len(rows))


class _Group:
    """The two passes for some queries."""

    def __init__(self, queries, database, rows, junk, top):
        self._queries, self._database, self._rows, self._top = queries, database, rows, top
        self._many = min(_ROWS_AT_A_TIME, rows_for(len(queries)))
        self._junk, self._listed = JunkPairs(junk, len(database)), JunkPairs(rows, len(database))
        self._kept: dict[int, np.ndarray] = {}

    def count(self, progress: Progress | None) -> tuple[list[np.ndarray], Ranking]:
        """Returns the places of each query's rows, and the best rows."""
        similarities = self._note_similarities()
        buckets = max(_FEWEST_BUCKETS, min(_MOST_BUCKETS, len(self._database)))
        counters = [_Counter(noted, own, buckets) for noted, own in zip(similarities, self._rows, strict=True)]
        best = TopK(len(self._queries), max(self._top, 1))
        total = -(-len(self._database) // self._many)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for first, block in told(self._all_blocks(), progress, "searching", total, "block"):
                self._junk.mask(first, block)
                if self._top:
                    best.add(first, block)
                self._listed.mask(first, block)
                _count_block(counters, first, block, threads)
        ranking = best.ranking() if self._top else Ranking(*(np.empty((len(counters), 0), t) for t in ("i4", "f4")))
        return [counter.places() for counter in counters], ranking

    def _note_similarities(self) -> list[np.ndarray]:
        """First pass: float32 [L] similarities of each query's listed rows, read from their blocks."""
        counts = [len(own) for own in self._rows]
        rows = np.concatenate([np.empty(0, np.int64), *self._rows])
        queries, order = np.repeat(np.arange(len(counts)), counts), np.argsort(rows, kind="stable")
        noted, room = np.empty(len(rows), np.float32), _KEPT_SIMILARITIES
        for first in np.unique(rows // self._many) * self._many:
            _, block = next(self._blocks(first, first + self._many))
            here = order[slice(*np.searchsorted(rows[order], [first, first + self._many]))]
            noted[here] = block[queries[here], rows[here] - first]
            if block.size <= room:
                self._kept[int(first)] = block
                room -= block.size
        return np.split(noted, np.cumsum(counts)[:-1])

    def _all_blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields every block in order: the kept ones, and runs of those between them."""
        start = 0
        for first in sorted(self._kept):
            yield from self._blocks(start, first)
            block = self._kept.pop(first)
            yield first, block
            start = first + block.shape[1]
        yield from self._blocks(start, len(self._database))

    def _blocks(self, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        for first, block in similarity_blocks(self._queries, self._database[start:stop], self._many):
            if not np.isfinite(block.min()):
                block[~(block > -np.inf)] = _LOWEST  # -inf marks the rows that do not count
            yield start + first, block


def _count_block(counters, first: int, block: np.ndarray, threads: ThreadPoolExecutor) -> None:
    """Counts in a block for every query; in threads where it is large, as NumPy releases the lock for long loops."""

    def count(part: slice) -> None:
        for counter, similarity in zip(counters[part], block[part], strict=True):
            counter.add(first, similarity)

    if block.size < _WORTH_THREADS:
        count(slice(None))
        return
    step = -(-len(block) // (os.cpu_count() or 1))
    list(threads.map(count, [slice(start, start + step) for start in range(0, len(block), step)]))


class _Counter:
    """Counts, for one query, the unlisted rows that come before each of its listed rows.

    Similarities fall into buckets of equal width between the lowest and the highest listed one. Rounding keeps the
    order of numbers, so one in a higher bucket than a listed row's is before it and one in a lower bucket behind;
    counting a bucket is all that most rows need (3 ns a row against 45 ns of a binary search). Those in the bucket of a
    listed row are placed by a binary search of their keys.
    """

    def __init__(self, similarity: np.ndarray, rows: np.ndarray, buckets: int):
        self._order = np.argsort(-rank_keys(similarity, rows))
        self._keys = -rank_keys(similarity, rows)[self._order]
        self._lowest, self._highest, self._scale = _bucket_scale(similarity, buckets)
        self._bucket = self._buckets(similarity[self._order])
        self._shared = np.zeros(buckets, bool)
        self._shared[self._bucket] = True
        self._counts = np.zeros(buckets, np.int64)
        self._before = np.zeros(len(rows) + 1, np.int64)

    def add(self, first: int, similarity: np.ndarray) -> None:
        """Takes in the similarities of further rows, float32 [n]; -inf for those that do not count."""
        if not len(self._keys):
            return
        buckets = self._buckets(similarity)
        self._counts += np.bincount(buckets, minlength=len(self._counts))
        unclear = np.flatnonzero(self._shared.take(buckets))
        if len(unclear):
            keys = -rank_keys(similarity[unclear], first + unclear)
            self._before += np.bincount(np.searchsorted(self._keys, keys), minlength=len(self._before))

    def places(self) -> np.ndarray:
        """Returns int64 [L]: the places of the listed rows, in the order they were given."""
        clear = np.where(self._shared, 0, self._counts)
        above = np.cumsum(clear[::-1])[::-1][self._bucket]
        places = np.empty(len(self._keys), np.int64)
        places[self._order] = above + np.cumsum(self._before[:-1]) + np.arange(len(self._keys))
        return places

    def _buckets(self, similarity: np.ndarray) -> np.ndarray:
        scaled = np.clip(similarity, self._lowest, self._highest)
        scaled -= self._lowest
        scaled *= self._scale
        return scaled.astype(np.intp)


def _bucket_scale(similarity: np.ndarray, buckets: int) -> tuple[np.float32, np.float32, np.float32]:
    """Returns what is subtracted, the highest similarity told apart, and buckets a unit; all float32.

    Two buckets lie below the lowest and two above the highest listed similarity, so that rows outside are clear. Those
    beyond 1e30, which are not similarities of finite descriptors, fall into the outer buckets.
    """
    usual = similarity[np.abs(similarity) < 1e30].astype(np.float64)
    low, high = (usual.min(), usual.max()) if len(usual) else (0.0, 0.0)
    width = max((high - low) / (buckets - 16), float(np.spacing(np.float32(max(abs(low), abs(high))))), 1e-30)
    return np.float32(low - 2 * width), np.float32(high + 2 * width), np.float32(1 / width)
