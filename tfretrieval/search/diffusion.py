"""Diffusion: similarity spreads along the database's graph of nearest neighbours."""

import dataclasses
from typing import ClassVar

import numpy as np
import scipy.sparse

from tfretrieval.search.candidates import Candidates
from tfretrieval.search.exact import Progress, told
from tfretrieval.search.knn import neighbours, neighbours_of
from tfretrieval.search.knn_graph import Graph, Solver
from tfretrieval.search.query_expansion import similarity_weights
from tfretrieval.search.step import Step, setting

MODES = ("offline", "online")

# Rows of the inverse that are solved and added up at a time.
_ROWS_AT_A_TIME = 4096


@dataclasses.dataclass(frozen=True)
class Diffusion(Step):
    """Diffusion on the database's mutual graph of nearest neighbours: `diffusion:k=50,mode=offline`.

    f = (I - alpha S)^(-1) y, with S of `knn_graph.Graph`, whose neighbours are k with the photo itself, and y the
    query's similarities^gamma to its first kq photos, 0 elsewhere. Photos with f > 0 come first, by falling f; all
    others keep their order behind them. Both modes truncate, in two ways:

    - `online`: the system is solved for each query on the `truncation` first photos of its ranking. Source: Iscen,
      Tolias, Avrithis, Furon, Chum, "Efficient Diffusion on Region Manifolds", CVPR 2017, with its conjugate gradients
      and its truncation; global descriptors in the place of regions.
    - `offline`: a row of the inverse is solved for each of a query's first kq photos, on the `truncation` nearest
      neighbours of that photo with itself; f is the sum of the rows weighted by y. Source: Yang, Hinami, Matsui, Ly,
      Satoh, "Efficient Image Retrieval via Decoupling Diffusion into Online and Offline Processing", AAAI 2019, and
      the search that its authors published first. Rows that no query asks for are not solved; `offline_rows` solves
      all. Their later variant joins the queries to the graph, where one query's result depends on the others and junk
      cannot be left out for one query alone; it is not offered.

    Junk is no node of a query's systems: it is left out of every support. The database's neighbours, found before
    any query is known, are not filled up in its place.

    Takes a product of the database with itself (`knn.neighbours`). Memory: 60 * N * k bytes for the graph, and
    16 * truncation bytes a query online; offline, 12 * truncation bytes for each photo that some query starts from.
    Beside that about 400 MB.

    Attributes:
        k: neighbours in the graph, the photo itself counted as one.
        mode: offline or online.
        truncation: photos in a system.
        kq: photos of the query's ranking that diffusion starts from.
        gamma: exponent of similarities.
        alpha: share that goes on along edges.
        iterations: most steps of conjugate gradients.
        tolerance: their residual, as a share of y.
    """

    name: ClassVar[str] = "diffusion"
    k: int = setting(50, least=2)
    mode: str = setting("offline", choices=MODES)
    truncation: int = setting(1000, least=2)
    kq: int = setting(10, least=1)
    gamma: float = setting(3.0, above=0)
    alpha: float = setting(0.99, above=0, below=1)
    iterations: int = setting(20, least=1)
    tolerance: float = setting(1e-6, least=0, below=1)

    @property
    def depth(self) -> int:
        """The photos that it starts from, and online those that it spreads over."""
        return max(self.kq, self.truncation) if self.mode == "online" else self.kq

    @property
    def solver(self) -> Solver:
        """How systems are solved."""
        return Solver(self.alpha, self.iterations, self.tolerance)

    def graph(self, database: np.ndarray, progress: Progress | None = None) -> Graph:
        """Returns the graph of a database, float32 [N, D]."""
        return Graph.mutual(neighbours(database, self.k - 1, progress), self.gamma)

    def apply(self, candidates: Candidates, progress: Progress | None = None) -> Candidates:
        """Diffuses and re-orders; see `Step.apply`."""
        database = candidates.database
        graph = candidates.context.once(
            (self.name, self.k, self.gamma), database, lambda: self.graph(database, progress)
        )
        return (self._online if self.mode == "online" else self._offline)(candidates, graph, progress)

    def _weights(self, candidates: Candidates, query: int, rows: np.ndarray) -> np.ndarray:
        """Returns y at a query's first photos."""
        return similarity_weights(np.asarray(candidates.database[rows]) @ candidates.queries[query], self.gamma)

    def _online(self, candidates: Candidates, graph: Graph, progress: Progress | None) -> Candidates:
        supports = np.full((len(candidates.queries), min(self.truncation, len(graph))), -1, np.int64)
        sources = np.zeros(supports.shape, np.float32)
        for query, rows in enumerate(candidates.first(supports.shape[1])):
            supports[query, : len(rows)] = rows
            started = rows[: self.kq]
            sources[query, : len(started)] = self._weights(candidates, query, started)
        values = self.solver.solve(graph, supports, sources, progress)
        found = [(rows[f > 0], f[f > 0]) for rows, f in zip(supports, values, strict=True)]
        return candidates.reordered([rows for rows, _ in found], [values for _, values in found])

    def _offline(self, candidates: Candidates, graph: Graph, progress: Progress | None) -> Candidates:
        firsts = list(candidates.first(self.kq))
        asked = np.unique(np.concatenate([np.zeros(0, np.int32), *firsts]))
        near = self._supports(asked, candidates.database, progress)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        many = max(1, _ROWS_AT_A_TIME // self.kq)
        starts = range(0, len(firsts), many)
        for start in told(starts, progress, "offline diffusion", len(starts), "part"):
            part = range(start, min(start + many, len(firsts)))
            supports = near[np.searchsorted(asked, np.concatenate([firsts[query] for query in part]))]
            ends = np.cumsum([len(firsts[query]) for query in part])
            if candidates.junk is not None:
                for query, own in zip(part, np.split(supports, ends[:-1]), strict=True):
                    own[np.isin(own, candidates.junk[query])] = -1  # writes to `supports`, a copy of `near`
            values = self.solver.solve(graph, supports, _unit_sources(supports))
            for query, own, rows in zip(part, np.split(supports, ends[:-1]), np.split(values, ends[:-1]), strict=True):
                found.append(_summed(own, self._weights(candidates, query, firsts[query])[:, None] * rows))
        return candidates.reordered([rows for rows, _ in found], [values for _, values in found])

    def _supports(self, rows: np.ndarray, database: np.ndarray, progress: Progress | None) -> np.ndarray:
        """Returns int32 [R, T]: rows with their nearest neighbours behind them."""
        order = neighbours_of(rows, database, self.truncation - 1, progress).order
        return np.concatenate([rows[:, None].astype(np.int32), order], axis=1)

    def offline_rows(self, database: np.ndarray, progress: Progress | None = None) -> scipy.sparse.csr_array:
        """Solves the rows of all photos: the whole offline part, for a server that keeps it.

        The same neighbours serve the graph and the supports. Memory: 24 * N * truncation bytes, 2.4 GB at 100,000
        photos and 1,000 neighbours, of which the result keeps 8.

        Args:
            database: float32 [N, D].
            progress: makes a progress bar, as `console.progress`.

        Returns:
            float32 [N, N], sparse: row n holds f for y = 1 at photo n alone, at its `truncation` nearest, by falling
            similarity.
        """
        found = neighbours(database, max(self.truncation, self.k) - 1, progress)
        nearest = dataclasses.replace(
            found, order=found.order[:, : self.k - 1], similarity=found.similarity[:, : self.k - 1]
        )
        graph = Graph.mutual(nearest, self.gamma)
        rows = np.arange(len(database), dtype=np.int32)[:, None]
        supports = np.concatenate([rows, found.order[:, : self.truncation - 1]], axis=1)
        del found, nearest
        values = self.solver.solve(graph, supports, _unit_sources(supports), progress)
        ends = np.arange(len(supports) + 1) * supports.shape[1]
        return scipy.sparse.csr_array((values.ravel(), supports.ravel(), ends), (len(graph), len(graph)))


def _unit_sources(supports: np.ndarray) -> np.ndarray:
    """Returns float32 [R, T]: 1 at the first photo of each support; read-only."""
    return np.broadcast_to(np.eye(1, supports.shape[1], dtype=np.float32), supports.shape)


def _summed(supports: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Adds rows up by photo: those with a positive sum, in rising order, and their sums."""
    taken = supports >= 0
    rows, places = np.unique(supports[taken], return_inverse=True)
    sums = np.bincount(places, values[taken].astype(np.float64), minlength=len(rows))
    return rows[sums > 0], sums[sums > 0]
