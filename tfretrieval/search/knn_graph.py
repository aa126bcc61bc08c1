"""The graph of mutual nearest neighbours that diffusion runs on, and truncated solutions on it, many at a time."""

import concurrent.futures
import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import scipy.sparse

from tfretrieval.search.exact import Progress, told
from tfretrieval.search.ranking import Ranking

# Unknowns solved for together: the vectors of a batch then stay in the processor's cache.
_UNKNOWNS_AT_A_TIME = 2**15
_LOOKUP_BYTES = 2**26


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A graph of N photos.

    Attributes:
        transition: S = D^(-1/2) W D^(-1/2), float32 [N, N], sparse by rows and symmetric: W is the affinity and D the
            diagonal of its row sums. Photos without an edge have empty rows.
    """

    transition: scipy.sparse.csr_array

    @classmethod
    def mutual(cls, found: Ranking, gamma: float) -> "Graph":
        """Joins photos that are among each other's nearest.

        W_ij = max(<x_i, x_j>, 0)^gamma where j is one of i's neighbours and i one of j's, otherwise 0; the diagonal is
        0. Source: Iscen, Tolias, Avrithis, Furon, Chum, "Efficient Diffusion on Region Manifolds: Recovering Small
        Objects with Compact CNN Representations", CVPR 2017, section 3.

        Memory: about 40 bytes for each of the N * k neighbours while it is made, at most 8 of them kept.

        Args:
            found: [N, k] neighbours of every photo, itself left out (`knn.neighbours`).
            gamma: exponent.
        """
        count, k = found.order.shape
        weights = np.maximum(found.similarity.ravel(), 0) ** np.float32(gamma)
        directed = scipy.sparse.csr_array((weights, found.order.ravel(), np.arange(count + 1) * k), (count, count))
        # No entry counts as 0, so the minimum keeps mutual neighbours alone; and where rounding makes the directions
        # of an edge differ, it is the same for both.
        affinity = directed.minimum(directed.T).tocsr()
        degrees = affinity.sum(axis=1)
        scale = np.divide(1, np.sqrt(degrees), out=np.zeros_like(degrees), where=degrees > 0)
        rows = np.repeat(np.arange(count), np.diff(affinity.indptr))
        affinity.data = np.asarray(affinity.data * (scale[rows] * scale[affinity.indices]), np.float32)
        affinity.sort_indices()
        return cls(affinity)

    def __len__(self) -> int:
        return self.transition.shape[0]


@dataclasses.dataclass(frozen=True)
class Solver:
    """Solves (I - alpha S) f = y on parts of a graph by conjugate gradients.

    Attributes:
        alpha: in (0, 1).
        iterations: most steps of conjugate gradients.
        tolerance: a solution whose residual is smaller than this share of y, in length, is done.
    """

    alpha: float = 0.99
    iterations: int = 20
    tolerance: float = 1e-6

    def solve(
        self, graph: Graph, supports: np.ndarray, sources: np.ndarray, progress: Progress | None = None
    ) -> np.ndarray:
        """Solves R systems, each on the graph's rows and columns of one support alone.

        The systems of a batch are the blocks of one sparse matrix, so that one product serves them all; each has its
        own step lengths, and the same result in any batch. Two batches are worked on at a time, each with about
        130 MB: 64 MB of them to look up a photo's place in a support.

        Args:
            graph: of N photos.
            supports: int [R, T] rows of the graph, none twice in one support; -1 where a support is shorter.
            sources: float [R, T], y at the support's photos.
            progress: makes a progress bar, as `console.progress`.

        Returns:
            float32 [R, T], f at the support's photos; 0 at places with -1.
        """
        found = np.zeros(supports.shape, np.float32)
        if not supports.size:
            return found
        length = supports.shape[1]
        many = max(1, min(_UNKNOWNS_AT_A_TIME // length, _LOOKUP_BYTES // (4 * len(graph))))
        parts = [slice(first, first + many) for first in range(0, len(supports), many)]

        def run(part: slice) -> None:
            found[part] = self._solve_batch(graph, supports[part], sources[part])

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for done in told(_in_turn(pool, run, parts), progress, "diffusion", len(parts), "batch"):
                done.result()
        return found

    def _solve_batch(self, graph: Graph, supports: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """Solves the systems of one batch together."""
        matrix = _blocks(graph, supports)
        y = np.where(supports >= 0, sources, 0).astype(np.float64)
        f = np.zeros_like(y)
        residual, direction = y.copy(), y.copy()
        square = np.einsum("rt,rt->r", y, y)
        enough = square * self.tolerance**2
        for _ in range(self.iterations):
            active = square > enough
            if not active.any():
                break
            image = direction - self.alpha * (matrix @ direction.ravel()).reshape(y.shape)
            curvature = np.einsum("rt,rt->r", direction, image)
            step = np.divide(square, curvature, out=np.zeros_like(square), where=active)
            f += step[:, None] * direction
            residual -= step[:, None] * image
            before, square = square, np.where(active, np.einsum("rt,rt->r", residual, residual), square)
            direction *= np.divide(square, before, out=np.zeros_like(square), where=active)[:, None]
            direction += residual
        return f


def _blocks(graph: Graph, supports: np.ndarray) -> scipy.sparse.csr_array:
    """Returns the graph's matrix at each support, as the blocks of one sparse matrix [R * T, R * T], float64."""
    count, length = supports.shape
    owner, place = np.nonzero(supports >= 0)
    rows = supports[owner, place]
    # Filled for this batch only: where a photo stands among the batch's unknowns.
    lookup = np.full((count, len(graph)), -1, np.int32)
    lookup[owner, rows] = owner * length + place
    taken = graph.transition[rows]
    owners = np.repeat(owner, np.diff(taken.indptr))
    columns = lookup[owners, taken.indices]
    inside = columns >= 0
    ends = np.concatenate([[0], np.cumsum(inside)])[taken.indptr]
    indptr = np.zeros(count * length + 1, np.int64)
    indptr[owner * length + place + 1] = np.diff(ends)
    shape = (count * length, count * length)
    values = taken.data[inside].astype(np.float64)
    return scipy.sparse.csr_array((values, columns[inside], np.cumsum(indptr)), shape)


def _in_turn(pool: concurrent.futures.Executor, run, parts: list) -> Iterator[concurrent.futures.Future]:
    """Yields futures of parts in order, with no more than a few begun ahead."""
    waiting = []
    for part in itertools.chain(parts, [None] * 4):
        if part is not None:
            waiting.append(pool.submit(run, part))
        if waiting and (part is None or len(waiting) > 3):
            yield waiting.pop(0)
