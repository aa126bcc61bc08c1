"""Recognition by search: the instance of a query from the labels of what was found."""

import dataclasses

import numpy as np

from tfretrieval.search.ranking import Ranking


@dataclasses.dataclass(frozen=True)
class Votes:
    """The winning label of each query.

    Attributes:
        labels: int64 [Q].
        scores: float32 [Q], the similarities that spoke for it, summed.
    """

    labels: np.ndarray
    scores: np.ndarray


def vote(ranking: Ranking, labels: np.ndarray, k: int = 3) -> Votes:
    """Lets the first k photos of each query vote for their label, each with its similarity.

    The score of a label is the sum of the similarities of the photos among the first k that have it; the label of the
    highest score wins, of equal ones the one whose best photo stands higher. Weyand, Araujo, Cao, Sim, "Google
    Landmarks Dataset v2", CVPR 2020, aggregate likewise over the k nearest; their k is not asked for here.

    Args:
        ranking: [Q, K], K >= 1.
        labels: int [N], of the database's photos.
        k: photos that vote, at most K.

    Raises:
        ValueError: k is below 1, or a ranking holds no photo.
    """
    if k < 1 or not ranking.order.shape[1]:
        raise ValueError(f"k is {k} and rankings hold {ranking.order.shape[1]} photos; 1 or more are wanted.")
    found = np.asarray(labels)[ranking.order[:, :k]].astype(np.int64)
    alike = found[:, :, None] == found[:, None, :]
    totals = (alike * ranking.similarity[:, None, :k].astype(np.float64)).sum(axis=2)
    best = totals.argmax(axis=1)  # the first of equal ones
    rows = np.arange(len(found))
    return Votes(found[rows, best], totals[rows, best].astype(np.float32))
