"""Database-side feature augmentation: each photo's descriptor takes in those of its neighbours."""

import dataclasses
import tempfile
from typing import ClassVar

import numpy as np
import scipy.sparse

from tfretrieval.search.candidates import Candidates
from tfretrieval.search.exact import Progress, told
from tfretrieval.search.knn import neighbours
from tfretrieval.search.query_expansion import normalised, similarity_weights
from tfretrieval.search.ranking import Ranking
from tfretrieval.search.step import Step, setting

# Larger databases are written to a temporary file, which the system keeps in memory as far as there is room.
_HELD_BYTES = 2**28
_ROWS_AT_A_TIME = 8192


@dataclasses.dataclass(frozen=True)
class DatabaseAugmentation(Step):
    """Database-side augmentation, weighted by similarity: `dba:k=10,alpha=1`.

    x' = (x + sum over its k nearest neighbours y of <x, y>^alpha y), L2-normalised; then the queries search anew.
    Source: Turcot, Lowe, "Better matching with fewer features", ICCV workshops 2009, for the idea; Arandjelovic,
    Zisserman, CVPR 2012, for its name; the weights as in Radenovic, Tolias, Chum, TPAMI 2018, and as used with AP-GeM.

    The database is augmented before any query is known. Photos that are junk to a query are left out of that query's
    ranking, but lend their descriptors to their neighbours as all others do: the junk rule is about candidate lists.

    Takes a product of the database with itself (`knn.neighbours`), N^2 * D multiplications: at 1,000,000 x 2048 some
    hours on two cores. Memory: 16 * N * k bytes, 200 MB, and the augmented database, above 256 MB in a temporary
    mapped file of 4 * N * D bytes in the context's folder, deleted with its last use.

    Attributes:
        k: neighbours taken in.
        alpha: exponent of their similarity; 0 is the plain mean.
    """

    name: ClassVar[str] = "dba"
    k: int = setting(10, least=1)
    alpha: float = setting(1.0, least=0)

    @property
    def depth(self) -> int:
        """0: it does not look at what the queries found."""
        return 0

    def apply(self, candidates: Candidates, progress: Progress | None = None) -> Candidates:
        """Augments and searches; see `Step.apply`."""
        database, context = candidates.database, candidates.context
        augmented = context.once(self, database, lambda: self.augmented(database, progress, context.folder))
        return candidates.searched_again(progress, database=augmented)

    def augmented(
        self, database: np.ndarray, progress: Progress | None = None, folder: str | None = None
    ) -> np.ndarray:
        """Returns the augmented descriptors, float32 [N, D], mapped to a temporary file in `folder` where large."""
        found = neighbours(database, self.k, progress)
        out = _room(database.shape, folder)
        augment(database, found, self.alpha, out, progress)
        return out


def augment(
    database: np.ndarray, found: Ranking, alpha: float, out: np.ndarray, progress: Progress | None = None
) -> None:
    """Writes the augmented descriptors of `DatabaseAugmentation`, some rows after the other.

    Args:
        database: float32 [N, D].
        found: [N, k], neighbours of each row and their similarities.
        alpha: exponent.
        out: float32 [N, D], not `database` itself.
        progress: makes a progress bar, as `console.progress`.
    """
    whole = np.asarray(database)
    starts = range(0, len(database), _ROWS_AT_A_TIME)
    for first in told(starts, progress, "augmentation", len(starts), "block"):
        order = found.order[first : first + _ROWS_AT_A_TIME]
        weights = similarity_weights(found.similarity[first : first + _ROWS_AT_A_TIME], alpha)
        ends = np.arange(len(order) + 1) * order.shape[1]
        mixing = scipy.sparse.csr_array((weights.ravel(), order.ravel(), ends), (len(order), len(database)))
        out[first : first + len(order)] = normalised(whole[first : first + len(order)] + mixing @ whole)


def _room(shape: tuple[int, int], folder: str | None) -> np.ndarray:
    """Returns float32 zeros, mapped to a nameless temporary file where they are many."""
    if 4 * shape[0] * shape[1] <= _HELD_BYTES:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.float32, "w+", shape=shape)
