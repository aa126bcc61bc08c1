"""Recall against exact search, queries per second, and the parameters of an index that reach a wanted recall."""

import dataclasses
import itertools
import time
from collections.abc import Iterable, Mapping

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.search.exact import Progress, search_top, told
from tfretrieval.search.index import SearchIndex
from tfretrieval.search.index_parameters import parameter_values
from tfretrieval.search.ranking import Ranking

_DRAWN_QUERIES = 2000
_ALL = 0.999  # recall that counts as having found everything
_LEAST_GAIN = 0.002
_TIMED_SECONDS = 0.2  # a search is repeated for so long, and its fastest run counts


@dataclasses.dataclass(frozen=True)
class KnownNeighbours:
    """Queries whose k most similar photos are known.

    Attributes:
        queries: float32 [Q, D].
        order: int32 [Q, k], the rows that exact search finds.
        own: int64 [Q], the database row that each query is, which counts neither as found nor as missed; or None.
    """

    queries: np.ndarray
    order: np.ndarray
    own: np.ndarray | None = None

    @classmethod
    def of_queries(
        cls, queries: np.ndarray, database: np.ndarray, k: int, progress: Progress | None = None
    ) -> "KnownNeighbours":
        """Searches the database exactly for given queries, float32 [Q, D] in float32 [N, D].

        Raises:
            InputError: see `search_top`.
        """
        return cls(queries, search_top(queries, database, k, progress).order)

    @classmethod
    def drawn(
        cls, database: np.ndarray, k: int, seed: int, count: int = _DRAWN_QUERIES, progress: Progress | None = None
    ) -> "KnownNeighbours":
        """Takes photos of the database as queries, drawn by the seed, and searches the others exactly for them.

        Raises:
            InputError: the database has no two photos; see `search_top`.
        """
        if len(database) < 2:
            raise InputError(f"there are {len(database)} photos to draw queries from; 2 or more are wanted.")
        count = min(count, len(database))
        own = np.sort(np.random.default_rng(seed).choice(len(database), count, replace=False, shuffle=False))
        queries = np.asarray(database[own])
        ranking = search_top(queries, database, min(k, len(database) - 1), progress, own[:, None])
        return cls(queries, ranking.order, own)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def k(self) -> int:
        """Photos compared for each query."""
        return self.order.shape[1]

    def halves(self, seed: int) -> tuple["KnownNeighbours", "KnownNeighbours"]:
        """Splits the queries, by the seed, into those to choose parameters by and those held out to check them.

        Raises:
            InputError: there are fewer than two.
        """
        if len(self) < 2:
            raise InputError(f"{len(self)} queries to tune with; 2 or more are wanted.")
        order = np.random.default_rng(seed).permutation(len(self))
        parts = np.sort(order[: len(self) // 2]), np.sort(order[len(self) // 2 :])
        return tuple(
            KnownNeighbours(self.queries[part], self.order[part], None if self.own is None else self.own[part])
            for part in parts
        )

    @property
    def asked(self) -> int:
        """Photos to ask an index for: one more where each query is itself in the database."""
        return self.k + (self.own is not None)

    def recall(self, found: Ranking) -> float:
        """Returns recall@k of a ranking [Q, asked]: the mean share of the exact k best that are among its k best."""
        order = np.where(found.similarity > -np.inf, found.order, -1)
        if self.own is not None:
            order = _without(self.own, order)[:, : self.k]
        shares = [len(np.intersect1d(one, other)) for one, other in zip(self.order, order, strict=True)]
        return float(np.mean(shares) / self.k)


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """What an index does with some parameters.

    Attributes:
        parameters: by name.
        recall: recall@k, in [0, 1].
        queries_per_second: of one batch with all queries, on all of Faiss's threads.
    """

    parameters: dict[str, int]
    recall: float
    queries_per_second: float


def measure(index: SearchIndex, known: KnownNeighbours) -> tuple[float, float]:
    """Returns recall@k and queries a second of an index with the parameters that it has."""
    best, spent = np.inf, 0.0
    while spent < _TIMED_SECONDS:
        start = time.perf_counter()
        found = index.search(known.queries, known.asked)
        seconds = time.perf_counter() - start
        best, spent = min(best, seconds), spent + seconds
    return known.recall(found), len(known) / best


def explore(
    index: SearchIndex, known: KnownNeighbours, enough: float = _ALL, progress: Progress | None = None
) -> list[OperatingPoint]:
    """Tries combinations of an index's parameters and returns those that nothing beats, by rising recall.

    From the cheapest combination on. One is passed over where another has found enough and is as fast as a cheaper one,
    no parameter of which is larger; and where the last doubling of one of its parameters, the others being equal,
    brought less than 0.002.
    Faiss's own `ParameterSpace.explore` bounds combinations by a dear one first, which takes minutes among a million
    photos, and cannot leave a query's own photo out. The index keeps the parameters that it had.

    Args:
        index: the index.
        known: queries and what they should find.
        enough: recall that needs no bettering.
        progress: makes a progress bar, as `console.progress`.
    """
    values, before = parameter_values(index.searched), dict(index.parameters)
    tried: dict[tuple[int, ...], OperatingPoint] = {}
    level: set[tuple[int, tuple[int, ...]]] = set()  # (axis, place) from which on a parameter brings nothing more
    places = sorted(itertools.product(*(range(len(own)) for own in values.values())), key=sum)
    try:
        for place in told(places, progress, "parameters", len(places), "setting"):
            level.update((axis, place) for axis in range(len(place)) if _is_level(axis, place, tried, level))
            if any((axis, place) in level for axis in range(len(place))) or _too_slow(place, tried, enough):
                continue
            parameters = {name: own[at] for (name, own), at in zip(values.items(), place, strict=True)}
            index.use(parameters)
            tried[place] = OperatingPoint(parameters, *measure(index, known))
    finally:
        index.use(before)
    return frontier(tried.values())


def frontier(points: Iterable[OperatingPoint]) -> list[OperatingPoint]:
    """Returns the points that no other one beats in both recall and speed, by rising recall."""
    best: list[OperatingPoint] = []
    for point in sorted(points, key=lambda each: (-each.queries_per_second, -each.recall)):
        if not best or point.recall > best[-1].recall:
            best.append(point)
    return best


def fastest_reaching(points: Iterable[OperatingPoint], recall: float) -> OperatingPoint | None:
    """Returns the fastest point of at least that recall, or None where there is none."""
    reaching = [point for point in points if point.recall >= recall]
    return max(reaching, key=lambda point: point.queries_per_second, default=None)


def tune(
    index: SearchIndex, known: KnownNeighbours, target: float, seed: int, progress: Progress | None = None
) -> tuple[OperatingPoint, dict]:
    """Finds the fastest parameters that reach a recall, on half of the queries, and checks them on the other half.

    Args:
        index: gets these parameters; where none reaches the recall, those that find most.
        known: queries and what they should find.
        target: wanted recall@k, in (0, 1].
        seed: of the halves.
        progress: makes a progress bar, as `console.progress`.

    Returns:
        The point, as measured on the half held out, and what to note: `target`, `reached` on the half that chose,
        `recall` and `queries_per_second` held out, `k`, the halves' sizes, and `points`, the frontier.

    Raises:
        InputError: fewer than two queries, or the target is not a share.
    """
    if not 0 < target <= 1:
        raise InputError(f"--recall_target={target:g}; a share above 0 and up to 1 is wanted.")
    choosing, held_out = known.halves(seed)
    points = explore(index, choosing, target, progress)
    chosen = fastest_reaching(points, target)
    parameters = (chosen or points[-1]).parameters
    index.use(parameters)
    checked = OperatingPoint(parameters, *measure(index, held_out))
    noted = {
        "target": target,
        "reached": chosen is not None,
        "recall": round(checked.recall, 4),
        "queries_per_second": round(checked.queries_per_second, 1),
        "k": known.k,
        "queries": {"chosen_by": len(choosing), "held_out": len(held_out)},
        "points": [noted_point(point) for point in points],
    }
    return checked, noted


def noted_point(point: OperatingPoint) -> dict:
    """Returns a point as result files note it."""
    return {
        "parameters": point.parameters,
        "recall": round(point.recall, 4),
        "queries_per_second": round(point.queries_per_second, 1),
    }


def _is_level(axis: int, place: tuple[int, ...], tried: Mapping, level: set) -> bool:
    """Says whether a parameter brings no more at a place: it brought too little on the way there."""
    if place[axis] < 2:
        return False
    one, two = ((*place[:axis], place[axis] - less, *place[axis + 1 :]) for less in (1, 2))
    if (axis, one) in level:
        return True
    return one in tried and two in tried and tried[one].recall - tried[two].recall < _LEAST_GAIN


def _too_slow(place: tuple[int, ...], tried: Mapping, enough: float) -> bool:
    """Says whether a combination is dearer than one that is no faster than another which has found enough."""
    reaching = fastest_reaching(tried.values(), enough)
    return reaching is not None and any(
        point.queries_per_second <= reaching.queries_per_second and _below(other, place)
        for other, point in tried.items()
    )


def _below(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))


def _without(own: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Takes each query's own row out of int rows [Q, n], or the last where it is not among them: [Q, n - 1]."""
    is_own = rows == own[:, None]
    is_own[~is_own.any(axis=1), -1] = True
    return rows[~is_own].reshape(len(rows), -1)
