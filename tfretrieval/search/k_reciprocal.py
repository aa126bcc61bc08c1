"""Re-ranking by k-reciprocal neighbours, of each query's short list."""

import dataclasses
from typing import ClassVar

import numpy as np

from tfretrieval.search.candidates import Candidates
from tfretrieval.search.exact import Progress, told
from tfretrieval.search.step import Step, setting


@dataclasses.dataclass(frozen=True)
class KReciprocal(Step):
    """k-reciprocal encoding of the query and its first photos: `kreciprocal:k1=20,k2=6,weight=0.3,top=500`.

    Orders by (1 - weight) * d_J + weight * d, the Jaccard distance of the expanded k-reciprocal neighbours and the
    original distance; see `k_reciprocal_distances`. Source: Zhong, Zheng, Cao, Li, "Re-ranking Person
    Re-identification with k-reciprocal Encoding", CVPR 2017. The authors' code holds a matrix of all queries and photos
    with each other; here each query's `top` photos and the query alone are the whole world, which works on databases of
    any size and lets no query's result depend on another's: this toolkit's truncation.

    The similarities it leaves are 1 less the distance. Memory beside the ranking: 4 * top * D bytes, and about
    40 * top^2, for one query at a time: 10 MB at 500.

    Attributes:
        k1: neighbours in the reciprocal sets.
        k2: neighbours whose encodings are averaged; 1 averages none.
        weight: of the original distance, the paper's lambda.
        top: photos re-ordered.
    """

    name: ClassVar[str] = "kreciprocal"
    k1: int = setting(20, least=1)
    k2: int = setting(6, least=1)
    weight: float = setting(0.3, least=0, most=1)
    top: int = setting(500, least=1)

    @property
    def depth(self) -> int:
        """The short list's length."""
        return self.top

    def apply(self, candidates: Candidates, progress: Progress | None = None) -> Candidates:
        """Re-orders; see `Step.apply`."""
        found, scores = list(candidates.first(self.top)), []
        for query, rows in enumerate(told(found, progress, "k-reciprocal", len(found), "query")):
            vectors = np.concatenate([candidates.queries[query : query + 1], candidates.database[rows]])
            scores.append(1 - k_reciprocal_distances(vectors, self.k1, self.k2, self.weight))
        return candidates.reordered(found, scores)


def k_reciprocal_distances(vectors: np.ndarray, k1: int, k2: int, weight: float) -> np.ndarray:
    """Returns the distances of `KReciprocal` from the first vector to all others.

    With d(i, j) the squared Euclidean distance as a share of the largest one from i (as the authors' code has it, the
    paper does not divide), and i itself the nearest neighbour of i:

    - R(i): the k1 + 1 nearest j of i that have i among their k1 + 1 nearest.
    - R*(i): R(i) joined with the R of half k1, rounded, of each j in R(i) which lies to more than two thirds in R(i).
    - V(i, j): exp(-d(i, j)) for j in R*(i), otherwise 0, divided by its sum over j; then the mean over the k2 nearest
      of i.
    - d_J(j) = 1 - m / (2 - m), with m the sum over the smaller of V(0, .) and V(j, .).

    Args:
        vectors: float32 [M + 1, D], the query first.
        k1: see `KReciprocal`.
        k2: see `KReciprocal`.
        weight: see `KReciprocal`.

    Returns:
        float64 [M].
    """
    vectors = vectors.astype(np.float64)
    squares = np.einsum("nd,nd->n", vectors, vectors)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T, 0)
    np.fill_diagonal(distances, 0)
    distances /= np.maximum(distances.max(axis=1, keepdims=True), 1e-12)
    # Copies of a photo are as near to it as itself; the row itself is put first among them.
    ahead = distances.copy()
    np.fill_diagonal(ahead, -1)
    nearest = np.argsort(ahead, axis=1, kind="stable")
    reciprocal = _reciprocal(nearest, k1)
    half = _reciprocal(nearest, round(k1 / 2))
    # Counts below 2^24 are exact in float32.
    shared = half.astype(np.float32) @ reciprocal.astype(np.float32).T
    joined = reciprocal & (3 * shared > 2 * half.sum(axis=1)[:, None]).T
    expanded = reciprocal | (joined.astype(np.float32) @ half.astype(np.float32) > 0)
    encoded = np.where(expanded, np.exp(-distances), 0)
    encoded /= encoded.sum(axis=1, keepdims=True)
    if k2 > 1:
        averaged = np.zeros_like(encoded)
        for place in range(min(k2, len(vectors))):
            averaged += encoded[nearest[:, place]]
        encoded = averaged / min(k2, len(vectors))
    common = np.minimum(encoded[0], encoded[1:]).sum(axis=1)
    return (1 - weight) * (1 - common / (2 - common)) + weight * distances[0, 1:]


def _reciprocal(nearest: np.ndarray, k: int) -> np.ndarray:
    """Returns bool [M, M]: whether i and j are among the k + 1 nearest of each other."""
    near = np.zeros(nearest.shape, bool)
    np.put_along_axis(near, nearest[:, : k + 1], True, axis=1)
    return near & near.T
