"""What re-ranking works on: queries, database and the photos ranked so far, handed from one step to the next."""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from tfretrieval.search.exact import Progress, search_top
from tfretrieval.search.ranking import Ranking

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Context:
    """What some steps need beside the descriptors.

    Attributes:
        query_photo: reads query q: uint8 [H, W, 3] RGB; cropped where the protocol crops queries.
        database_photo: reads the photo of a database row likewise.
        query_features: local features of all queries (see `local_features.LocalFeatures`), instead of photos.
        database_features: local features of all database rows.
        folder: where a database too large for memory is written meanwhile; None takes the system's temporary folder.
        made: what steps made of a database alone (a graph, augmented descriptors), for further runs with this context,
            as for other junk; see `once`.
    """

    query_photo: Callable[[int], np.ndarray] | None = None
    database_photo: Callable[[int], np.ndarray] | None = None
    query_features: object | None = None
    database_features: object | None = None
    folder: str | None = None
    made: dict = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def once(self, key: Hashable, database: np.ndarray, make: Callable[[], T]) -> T:
        """Returns what `make` returns, or returned before for this key and this very array."""
        if key not in self.made or self.made[key][0] is not database:
            self.made[key] = database, make()
        return self.made[key][1]


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """Queries, a database, and how they are ranked at this point of a chain.

    Photos beyond those in `ranking` follow in the order of the dot products of `queries` and `database`, the lower row
    first among equals, and junk last of all.

    Attributes:
        queries: float32 [Q, D], as expanded so far.
        database: float32 [N, D], as augmented so far; in memory or memory-mapped.
        ranking: [Q, K] the first K photos of each query. Junk, where K reaches it, is last, with similarity -inf.
            Similarities fall along each row; they are dot products, or a step's own scores where one re-ordered photos,
            with those behind shifted below them.
        junk: for each query the rows of the database that no step may use; None where there is none.
        context: what some steps need beside.
    """

    queries: np.ndarray
    database: np.ndarray
    ranking: Ranking
    junk: Sequence[np.ndarray] | None = None
    context: Context = dataclasses.field(default_factory=Context)

    @classmethod
    def search(
        cls,
        queries: np.ndarray,
        database: np.ndarray,
        keep: int,
        junk: Sequence[np.ndarray] | None = None,
        progress: Progress | None = None,
        context: Context | None = None,
    ) -> "Candidates":
        """Ranks by dot product; see `search_top` for arguments, memory and errors."""
        ranking = search_top(queries, database, keep, progress, junk)
        return cls(queries, database, ranking, junk, context or Context())

    def searched_again(
        self, progress: Progress | None, queries: np.ndarray | None = None, database: np.ndarray | None = None
    ) -> "Candidates":
        """Returns what other queries or another database find, to the same depth."""
        queries = self.queries if queries is None else queries
        database = self.database if database is None else database
        keep = self.ranking.order.shape[1]
        return Candidates.search(queries, database, keep, self.junk, progress, self.context)

    def first(self, count: int) -> Iterator[np.ndarray]:
        """Yields for each query the first rows, int32, `count` of them or as many as there are without junk."""
        for order, similarity in zip(self.ranking.order, self.ranking.similarity, strict=True):
            yield order[:count][similarity[:count] > -np.inf]

    def reordered(self, rows: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> "Candidates":
        """Returns candidates with photos put first: by falling score, of equal ones as given; others keep their order.

        Args:
            rows: for each query, database rows, none twice, none junk; they need not be in the ranking.
            scores: for each query, as many numbers.
        """
        order, similarity = self.ranking.order.copy(), self.ranking.similarity.copy()
        for query, (own, values) in enumerate(zip(rows, scores, strict=True)):
            best = np.argsort(-np.asarray(values), kind="stable")[: order.shape[1]]
            moved = np.asarray(own)[best]
            stays = ~np.isin(order[query], np.asarray(own))
            room = order.shape[1] - len(moved)
            order[query] = np.concatenate([moved, order[query][stays][:room]])
            head, tail = np.asarray(values, np.float32)[best], similarity[query][stays][:room]
            if len(head) and len(tail) and tail[0] > head[-1]:
                tail = np.minimum(tail - (tail[0] - head[-1]), head[-1])
            similarity[query] = np.concatenate([head, tail])
        return dataclasses.replace(self, ranking=Ranking(order, similarity))
