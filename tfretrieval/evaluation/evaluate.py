"""From descriptors or rankings to one `Evaluation`; needs arrays only, so training validates with it too."""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from tfretrieval.evaluation import metrics
from tfretrieval.evaluation.counting import Places, count_places, places_in
from tfretrieval.evaluation.measuring import ConditionMeter, ConditionResult
from tfretrieval.evaluation.protocols import ALL, PROTOCOLS, Protocol
from tfretrieval.evaluation.relevance import Relevance
from tfretrieval.search.exact import Progress
from tfretrieval.search.ranking import Ranking

SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a ranking is worth: means over queries, and each query's own figures.

    Queries without a relevant photo in the database have no AP and are left out of every mean. Where a protocol has
    several conditions, all but `conditions` is of its main one.

    Attributes:
        map: mean of the defined `ap`, in [0, 1]; NaN where no query has a relevant photo.
        recall_at: R@k by k, for 1, 5, 10 or the protocol's cut-offs (see `metrics.recall_at`).
        ap: float64 [Q], average precision, rectangular but where a protocol has another; NaN for queries without a
            relevant photo.
        first_relevant_rank: int64 [Q], place of the first relevant photo from 1; 0 where the ranking holds none.
        relevant: int64 [Q], relevant photos in the database.
        database: number of database photos.
        precision_at_shares: float64 [101], mean precision at which 0 %, 1 %, ... 100 % of the relevant are found.
        top: the first T <= 10 photos of each query, junk left out.
        top_is_relevant: bool [Q, T].
        conditions: the figures under each condition, by its name.
        main: the main condition's name.
    """

    map: float
    recall_at: dict[int, float]
    ap: np.ndarray
    first_relevant_rank: np.ndarray
    relevant: np.ndarray
    database: int
    precision_at_shares: np.ndarray
    top: Ranking
    top_is_relevant: np.ndarray
    conditions: Mapping[str, ConditionResult] = dataclasses.field(default_factory=dict)
    main: str = ALL

    @property
    def queries(self) -> int:
        """Number of queries, Q."""
        return len(self.ap)

    @property
    def queries_without_relevant(self) -> int:
        """Number of queries without a relevant photo in the database."""
        return int(np.sum(self.relevant == 0))

    def recall_curve(self, length: int = 100) -> np.ndarray:
        """Returns float64 [min(length, database)]: R@k for k = 1, 2, ..."""
        first = self.first_relevant_rank[self.relevant > 0]
        return np.array([metrics.recall_at(first, k) for k in range(1, min(length, self.database) + 1)])

    def worst_first(self) -> np.ndarray:
        """Returns int64 [M]: the queries that have an AP, by rising AP; ties in query order."""
        order = np.argsort(self.ap, kind="stable")
        return order[~np.isnan(self.ap[order])]


def evaluate(queries: np.ndarray, database: np.ndarray, relevance: Relevance) -> Evaluation:
    """Ranks the whole database for every query, exactly, and measures the rankings; memory stays bounded.

    Args:
        queries: float32 [Q, D], L2-normalised.
        database: float32 [N, D], L2-normalised; may be memory-mapped.
        relevance: of these queries and this database.

    Raises:
        ValueError: the shapes and the relevance do not belong together.
    """
    return evaluate_conditions(queries, database, {ALL: relevance}, PROTOCOLS["instances"])


def evaluate_conditions(
    queries: np.ndarray,
    database: np.ndarray,
    relevances: Mapping[str, Relevance],
    protocol: Protocol,
    progress: Progress | None = None,
) -> Evaluation:
    """Measures all conditions of a protocol by one search of the whole database, exactly; see `count_places`.

    Args:
        queries: float32 [Q, D], L2-normalised.
        database: float32 [N, D], L2-normalised; may be memory-mapped.
        relevances: of these queries and this database, by condition.
        protocol: says what is measured.
        progress: makes a progress bar, as `console.progress`.

    Raises:
        ValueError: the shapes and the relevances do not belong together, or there is no query.
    """
    if queries.ndim != 2 or database.ndim != 2 or queries.shape[1] != database.shape[1]:
        raise ValueError(f"queries {queries.shape} and database {database.shape} must be [Q, D] and [N, D].")
    for relevance in relevances.values():
        if (len(queries), len(database)) != (len(relevance), relevance.database):
            raise ValueError(
                f"{len(queries)} queries and {len(database)} database photos do not fit a relevance of "
                f"{len(relevance)} and {relevance.database}."
            )
    main = relevances[protocol.main_of(tuple(relevances))]
    listed = tuple(np.unique(np.concatenate(rows)) for rows in zip(*_listed(relevances), strict=True))
    shown = _shown(len(database), main)
    junk = [main.rows(query)[1] for query in range(len(main))]
    places, top = count_places(queries, database, listed, shown, junk, progress)
    meter = _Meter(relevances, protocol)
    meter.add(places, top)
    return meter.evaluation()


def evaluate_rankings(
    rankings: Ranking | Mapping[str, Ranking],
    relevances: Relevance | Mapping[str, Relevance],
    protocol: Protocol = PROTOCOLS["instances"],
) -> Evaluation:
    """Measures rankings made elsewhere (re-ranked, approximate, or truncated to the first K photos).

    Relevant photos that a truncated ranking lacks count as never found.

    Args:
        rankings: [Q, K], rows of the database, none twice for one query; one for all conditions, or one for each, where
            each condition's junk was taken out before photos were ranked.
        relevances: of these queries; one, or one for each condition.
        protocol: says what is measured.

    Raises:
        ValueError: a ranking and a relevance have different numbers of queries, or there is no query.
    """
    if isinstance(relevances, Relevance):
        relevances = {ALL: relevances}
    if isinstance(rankings, Ranking):
        rankings = dict.fromkeys(relevances, rankings)
    for name, relevance in relevances.items():
        if len(rankings[name].order) != len(relevance):
            raise ValueError(
                f"{len(rankings[name].order)} rankings do not fit a relevance of {len(relevance)} queries."
            )
    places = {
        name: places_in(rankings[name], relevance.listed(), relevance.database)
        for name, relevance in relevances.items()
    }
    return evaluate_places(places, rankings[protocol.main_of(tuple(relevances))], relevances, protocol)


def evaluate_places(
    places: Mapping[str, Places], ranking: Ranking, relevances: Mapping[str, Relevance], protocol: Protocol
) -> Evaluation:
    """Measures rankings of which only the places of listed photos, and the first photos, are known.

    Args:
        places: for each condition, of the rows that are relevant or junk under it.
        ranking: [Q, K], the first photos under the main condition.
        relevances: of these queries, for each condition.
        protocol: says what is measured.

    Raises:
        ValueError: there is no query.
    """
    meter = _Meter(relevances, protocol)
    relevance = relevances[meter.main]
    meter.add(places, _without_junk(ranking, relevance, _shown(ranking.order.shape[1], relevance)))
    return meter.evaluation()


def evaluate_parts(rankings: Iterable[Ranking], relevance: Relevance) -> Evaluation:
    """Measures full rankings that come in runs of queries, so that not all of them are held at once.

    Args:
        rankings: of the first queries, of those after them, and so on; K is the database's size.
        relevance: of all queries.

    Raises:
        ValueError: the rankings and the relevance have different numbers of queries.
    """
    meter, shown, done = _Meter({ALL: relevance}, PROTOCOLS["instances"]), _shown(relevance.database, relevance), 0
    for ranking in rankings:
        part = relevance.select(slice(done, done + len(ranking.order)))
        done += len(ranking.order)
        if len(part) == len(ranking.order):
            places = places_in(ranking, part.listed(), part.database)
            meter.add(places, _without_junk(ranking, part, shown))
    if done != len(relevance):
        raise ValueError(f"{done} rankings do not fit a relevance of {len(relevance)} queries.")
    return meter.evaluation()


def leave_one_out(vectors: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Lets each photo query all the others; relevant are those with its label.

    Args:
        vectors: float32 [N, D], L2-normalised.
        labels: int [N].

    Returns:
        The evaluation of N queries; `top` holds rows of `vectors`.
    """
    return evaluate(vectors, vectors, Relevance.by_instance(labels, labels, np.arange(len(labels))))


class _Meter:
    """Gathers the figures of a protocol's conditions while runs of queries come in.

    Attributes:
        main: the main condition's name.
    """

    def __init__(self, relevances: Mapping[str, Relevance], protocol: Protocol):
        self.main = protocol.main_of(tuple(relevances))
        self._relevances, self._done = relevances, 0
        self._meters = {name: ConditionMeter(protocol, len(one)) for name, one in relevances.items()}
        self._top: list[Ranking] = []
        self._right: list[np.ndarray] = []

    def add(self, places: Places | Mapping[str, Places], top: Ranking) -> None:
        """Takes in the next queries.

        Args:
            places: of their listed rows; the same for all conditions, or of each.
            top: their first photos, without the main condition's junk.
        """
        part = slice(self._done, self._done + len(top.order))
        for name, meter in self._meters.items():
            relevance = self._relevances[name].select(part)
            meter.add(places if isinstance(places, Places) else places[name], relevance)
            if name == self.main:
                hits = [np.isin(order, relevance.rows(query)[0]) for query, order in enumerate(top.order)]
                self._right.append(np.array(hits, bool).reshape(top.order.shape))
        self._top.append(top)
        self._done = part.stop

    def evaluation(self) -> Evaluation:
        """Returns the figures."""
        if not self._done:
            raise ValueError("there is no query to evaluate; one or more are wanted.")
        results = {name: meter.result() for name, meter in self._meters.items()}
        main = results[self.main]
        order, similarity = (np.concatenate([getattr(top, name) for top in self._top]) for name in _RANKING)
        return Evaluation(
            map=main.map,
            recall_at=main.recall_at,
            ap=main.ap,
            first_relevant_rank=main.first_relevant_rank,
            relevant=main.relevant,
            database=self._relevances[self.main].database,
            precision_at_shares=main.precision_at_shares,
            top=Ranking(order, similarity),
            top_is_relevant=np.concatenate(self._right),
            conditions=results,
            main=self.main,
        )


_RANKING = ("order", "similarity")


def _listed(relevances: Mapping[str, Relevance]) -> list[tuple[np.ndarray, ...]]:
    return [relevance.listed() for relevance in relevances.values()]


def _shown(ranked: int, relevance: Relevance) -> int:
    """Photos that every query's ranking certainly holds once its junk is out, at most `SHOWN`."""
    return max(0, min(SHOWN, ranked - max(map(len, relevance.junk), default=0)))


def _without_junk(ranking: Ranking, relevance: Relevance, shown: int) -> Ranking:
    """Returns the first `shown` photos of each query that are not junk."""
    parts = []
    for query, order in enumerate(ranking.order):
        junk = relevance.rows(query)[1]
        parts.append(np.flatnonzero(~np.isin(order[: shown + len(junk)], junk))[:shown])
    at = np.array(parts, np.int64).reshape(len(ranking.order), shown)
    return Ranking(*(np.take_along_axis(getattr(ranking, name), at, axis=1) for name in _RANKING))
