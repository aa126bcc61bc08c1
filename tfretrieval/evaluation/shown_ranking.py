"""The first photos of each query, saved beside a result so that pages made later can show them."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.search.ranking import Ranking

FILE = "top.npz"


@dataclasses.dataclass(frozen=True, eq=False)
class ShownRanking:
    """What strips show of an evaluation.

    Attributes:
        top: the first T photos of each query, junk left out.
        top_is_relevant: bool [Q, T].
    """

    top: Ranking
    top_is_relevant: np.ndarray

    def save(self, directory: str | Path) -> None:
        """Writes `top.npz`: order int32, similarity float32 and right bool, [Q, T] each."""
        arrays = {"order": self.top.order, "similarity": self.top.similarity, "right": self.top_is_relevant}
        np.savez_compressed(Path(directory) / FILE, **arrays)

    @classmethod
    def load(cls, directory: str | Path) -> "ShownRanking":
        """Reads what `save` wrote.

        Raises:
            InputError: the file is missing, unreadable or inconsistent.
        """
        path = Path(directory) / FILE
        try:
            with np.load(path, allow_pickle=False) as stored:
                order, similarity, right = (stored[name] for name in ("order", "similarity", "right"))
            kinds = tuple(array.dtype.kind for array in (order, similarity, right))
            if kinds != ("i", "f", "b") or not order.shape == similarity.shape == right.shape:
                raise ValueError(f"arrays of the kinds {kinds} and the shapes {order.shape}, {similarity.shape}")
            return cls(Ranking(order, similarity), right)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} cannot be read ({error}); a result of pipelines.evaluate is wanted.") from error

    def check(self, queries: int, database: int, directory: str | Path) -> None:
        """Checks that the rows are those of a benchmark.

        Raises:
            InputError: the number of queries differs, or a row leaves the database.
        """
        order = self.top.order
        if len(order) != queries or (order.size and (order.min() < 0 or order.max() >= database)):
            raise InputError(
                f"{Path(directory) / FILE} is of {len(order):,} queries, with rows up to {order.max(initial=-1):,}; a "
                f"benchmark of {queries:,} queries and {database:,} database photos is wanted."
            )
