"""A kNN graph on disk: `order.npy`, `similarity.npy`, `ids.txt` and `meta.json` in one directory."""

import dataclasses
from pathlib import Path

import numpy as np

from tfretrieval import files
from tfretrieval.errors import InputError
from tfretrieval.search.ranking import Ranking


@dataclasses.dataclass(frozen=True)
class NeighbourLists:
    """The nearest neighbours of N photos among themselves.

    Attributes:
        ranking: order and similarity [N, K], as `knn.neighbours` returns them; may be memory-mapped.
        ids: N photo ids, in row order.
        meta: what made them: K, the descriptors, and the provenance header.
    """

    ranking: Ranking
    ids: tuple[str, ...]
    meta: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        order, similarity = self.ranking.order, self.ranking.similarity
        if order.dtype != np.int32 or similarity.dtype != np.float32:
            raise InputError(
                f"neighbours are {order.dtype} with {similarity.dtype} similarities; int32 and float32 are wanted."
            )
        if len(self.ids) != len(order):
            raise InputError(f"{len(self.ids)} ids stand beside neighbours of {len(order)} photos; as many are wanted.")

    @classmethod
    def load(cls, directory: str | Path) -> "NeighbourLists":
        """Opens saved neighbours; the arrays are memory-mapped.

        Raises:
            InputError: a file is missing or unreadable, or they do not fit together.
        """
        directory = Path(directory)
        meta = files.read_json(directory / "meta.json", "the description of saved neighbours")
        try:
            order, similarity = (
                np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in ("order", "similarity")
            )
            ids = (directory / "ids.txt").read_text(encoding="utf-8").split("\n")[:-1]
            return cls(Ranking(order, similarity), tuple(ids), meta)
        except (OSError, ValueError, EOFError, InputError) as error:
            raise InputError(f"{directory} does not hold readable neighbours: {error}") from error

    def save(self, directory: str | Path) -> None:
        """Writes the directory atomically, replacing earlier neighbours there.

        Raises:
            InputError: the directory holds something else.
        """
        with files.atomic_directory(directory, marker="order.npy") as partial:
            np.save(partial / "order.npy", self.ranking.order)
            np.save(partial / "similarity.npy", self.ranking.similarity)
            files.write_text(partial / "ids.txt", "".join(f"{photo}\n" for photo in self.ids))
            files.write_json(partial / "meta.json", self.meta)
