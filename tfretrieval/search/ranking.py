"""The one ranking value that metrics, re-ranking, mining and pictures share, and exact search that makes it."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Database rows in order of falling similarity, one row of `order` a query.

    Attributes:
        order: int32 [Q, K], rows of the database, best first; K is the database's size for a full ranking.
        similarity: float32 [Q, K], dot products of the unit descriptors, falling along each row.
    """

    order: np.ndarray
    similarity: np.ndarray

    def __post_init__(self):
        if self.order.shape != self.similarity.shape or self.order.ndim != 2:
            raise ValueError(f"order {self.order.shape} and similarity {self.similarity.shape} must be equal [Q, K].")


def exact_ranking(queries: np.ndarray, database: np.ndarray, chunk: int = 1024) -> Ranking:
    """Ranks the whole database for every query by dot product, exactly.

    Ties: the photo that stands earlier in the database comes first (stable sort).

    Args:
        queries: float32 [Q, D].
        database: float32 [N, D].
        chunk: queries scored at a time; bounds the memory to `chunk * N * 12` bytes beyond the result.

    Returns:
        A full `Ranking`, K = N.
    """
    order = np.empty((len(queries), len(database)), np.int32)
    similarity = np.empty((len(queries), len(database)), np.float32)
    for start in range(0, len(queries), chunk):
        scores = queries[start : start + chunk] @ database.T
        ranked = np.argsort(-scores, axis=1, kind="stable")
        order[start : start + chunk] = ranked
        similarity[start : start + chunk] = np.take_along_axis(scores, ranked, axis=1)
    return Ranking(order, similarity)
