"""Query expansion: the query is replaced by one made of it and of what it found, and the database searched again."""

import dataclasses
from typing import ClassVar

import numpy as np

from tfretrieval.search.candidates import Candidates
from tfretrieval.search.exact import Progress, search_top, told
from tfretrieval.search.step import Step, setting


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors [..., D] at length 1, float32; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def similarity_weights(similarity: np.ndarray, alpha: float) -> np.ndarray:
    """Returns float32 weights max(similarity, 0)^alpha, all 1 for alpha = 0.

    Negative similarities have no fractional power; that they count as 0 is this toolkit's.
    """
    return np.maximum(similarity, np.float32(0)) ** np.float32(alpha)


@dataclasses.dataclass(frozen=True)
class AlphaQueryExpansion(Step):
    """alpha query expansion, weighted by similarity: `aqe:k=50,alpha=3`.

    q' = (q + sum over the first k photos of <q, x>^alpha x), L2-normalised; then a new search. The query's own weight
    is 1. Source: Radenovic, Tolias, Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2018,
    section 3.4; its usual settings, k = 50 and alpha = 3, are the defaults.

    <q, x> is computed anew, so that a step before this one changes which photos count but not by how much.

    Memory beside a search's: 4 * k * D bytes.

    Attributes:
        k: photos taken in.
        alpha: exponent of their similarity; 0 is average query expansion.
        times: how often the query is expanded and searched.
    """

    name: ClassVar[str] = "aqe"
    k: int = setting(50, least=1)
    alpha: float = setting(3.0, least=0)
    times: int = setting(1, least=1)

    @property
    def depth(self) -> int:
        """The photos taken in."""
        return self.k

    def apply(self, candidates: Candidates, progress: Progress | None = None) -> Candidates:
        """Expands and searches; see `Step.apply`."""
        for _ in range(self.times):
            expanded = np.empty_like(candidates.queries)
            for at, rows in enumerate(candidates.first(self.k)):
                expanded[at] = expand(candidates.queries[at], np.asarray(candidates.database[rows]), self.alpha)
            candidates = candidates.searched_again(progress, queries=expanded)
        return candidates


def expand(query: np.ndarray, found: np.ndarray, alpha: float) -> np.ndarray:
    """Returns the expanded query of `AlphaQueryExpansion`: [D] and [k, D] -> float32 [D]."""
    return normalised(query + similarity_weights(found @ query, alpha) @ found)


@dataclasses.dataclass(frozen=True)
class AverageQueryExpansion(Step):
    """Average query expansion: `qe:k=10`.

    q' = the mean of q and the first k photos, L2-normalised (the length of a query changes no ranking); then a new
    search. Source: Chum, Philbin, Sivic, Isard, Zisserman, "Total Recall: Automatic Query Expansion with a Generative
    Feature Model for Object Retrieval", ICCV 2007, whose photos are verified first: `gv | qe:k=10`.

    Memory: see `AlphaQueryExpansion`.

    Attributes:
        k: photos taken in.
        times: how often the query is expanded and searched.
    """

    name: ClassVar[str] = "qe"
    k: int = setting(10, least=1)
    times: int = setting(1, least=1)

    @property
    def depth(self) -> int:
        """The photos taken in."""
        return self.k

    def apply(self, candidates: Candidates, progress: Progress | None = None) -> Candidates:
        """Expands and searches; see `Step.apply`."""
        return AlphaQueryExpansion(self.k, 0.0, self.times).apply(candidates, progress)


@dataclasses.dataclass(frozen=True)
class DiscriminativeQueryExpansion(Step):
    """Discriminative query expansion: `dqe:k=10,negatives=200`.

    A linear support-vector machine is trained for each query, with the query and its first k photos as positives and
    the last photos of the whole ranking by dot product, junk left out, as negatives; its weight vector, at length 1, is
    the new query. Source: Arandjelovic, Zisserman, "Three things everyone should know to improve object retrieval",
    CVPR 2012, section 4; descriptors in the place of bags of words, and C = 1, are this toolkit's choices.

    Costs a search for the negatives beside the new one. Memory beside a search's: 8 * (k + negatives) * D bytes.

    Attributes:
        k: positives beside the query.
        negatives: photos from the end.
        c: penalty of the machine's errors, C.
    """

    name: ClassVar[str] = "dqe"
    k: int = setting(10, least=1)
    negatives: int = setting(200, least=1)
    c: float = setting(1.0, above=0)

    @property
    def depth(self) -> int:
        """The positives."""
        return self.k

    def apply(self, candidates: Candidates, progress: Progress | None = None) -> Candidates:
        """Trains and searches; see `Step.apply`."""
        queries, database = candidates.queries, candidates.database
        last = search_top(-queries, database, self.negatives, progress, candidates.junk)
        expanded = queries.copy()
        firsts = told(candidates.first(self.k), progress, "linear classifiers", len(queries), "query")
        for at, rows in enumerate(firsts):
            others = last.order[at][last.similarity[at] > -np.inf]
            others = others[~np.isin(others, rows)]  # a database of few photos has the same ones first and last
            if len(others):
                positives = np.concatenate([queries[at : at + 1], database[rows]])
                expanded[at] = separating_direction(positives, np.asarray(database[others]), self.c)
        return candidates.searched_again(progress, queries=expanded)


def separating_direction(positives: np.ndarray, negatives: np.ndarray, c: float) -> np.ndarray:
    """Returns the weight vector of a linear support-vector machine, at length 1.

    It minimises |w|^2 / 2 + c * sum of max(0, 1 - y (<w, x> + b)); exact up to the solver's tolerance, 1e-6.

    Args:
        positives: float [P, D], y = 1.
        negatives: float [M, D], y = -1.
        c: > 0.

    Returns:
        float32 [D].
    """
    from sklearn.svm import SVC  # takes a second to import, and only this step needs it

    # In float64, so that equal input gives equal bits.
    vectors = np.concatenate([positives, negatives]).astype(np.float64)
    labels = np.repeat([1, -1], [len(positives), len(negatives)])
    machine = SVC(kernel="linear", C=c, tol=1e-6).fit(vectors, labels)
    return normalised(machine.coef_[0])
