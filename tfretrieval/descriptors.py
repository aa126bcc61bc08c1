"""Descriptors on disk: `vectors.npy`, `ids.txt` and `meta.json` in one directory."""

import dataclasses
from pathlib import Path

import numpy as np

from tfretrieval import files
from tfretrieval.errors import InputError
from tfretrieval.sharded_descriptors import PLAN


@dataclasses.dataclass(frozen=True)
class Descriptors:
    """Descriptors of N photos.

    Attributes:
        vectors: float32 [N, D], rows L2-normalised by the models of this toolkit; may be memory-mapped.
        ids: N photo ids, unique, in row order.
        meta: what made them: model, its SHA-256, image size, milliseconds per photo, and the provenance header.
    """

    vectors: np.ndarray
    ids: tuple[str, ...]
    meta: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32:
            raise InputError(
                f"descriptors are {self.vectors.dtype} of shape {self.vectors.shape}; float32 [N, D] is wanted."
            )
        if len(self.ids) != len(self.vectors):
            raise InputError(
                f"{len(self.ids)} ids stand beside {len(self.vectors)} vectors; one id a vector is wanted."
            )
        broken = next((photo for photo in self.ids if "\n" in photo or "\r" in photo), None)
        if broken is not None:
            raise InputError(f"the id {broken!r} goes over several lines; ids of one line are wanted.")
        if len(set(self.ids)) != len(self.ids):
            twice = next(photo for index, photo in enumerate(self.ids) if photo in self.ids[:index])
            raise InputError(f"the id {twice!r} stands twice among the descriptors; ids must be unique.")

    @classmethod
    def load(cls, directory: str | Path) -> "Descriptors":
        """Opens saved descriptors; vectors are memory-mapped, not read.

        Raises:
            InputError: a file is missing or unreadable, or counts, dtype or shape do not fit together.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise InputError(
                f"{directory} is not a directory; descriptors (vectors.npy, ids.txt, meta.json) are wanted."
            )
        if (directory / PLAN).is_file() and not (directory / "meta.json").is_file():
            raise InputError(
                f"{directory} is an extraction in shards that was cut off; pipelines.extract with its flags goes on."
            )
        meta = files.read_json(directory / "meta.json", "the description of saved descriptors")
        try:
            vectors = np.load(directory / "vectors.npy", mmap_mode="r", allow_pickle=False)
            ids = (directory / "ids.txt").read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{directory} does not hold readable descriptors: {error}.") from error
        if not ids[-1]:  # what follows the last line's end
            ids.pop()
        try:
            return cls(vectors, tuple(ids), meta)
        except InputError as error:
            raise InputError(f"{directory}: {error}") from None

    def save(self, directory: str | Path) -> None:
        """Writes the directory atomically, replacing earlier descriptors there.

        Raises:
            InputError: the directory holds something other than descriptors.
        """
        with files.atomic_directory(directory, marker="vectors.npy") as partial:
            np.save(partial / "vectors.npy", np.ascontiguousarray(self.vectors))
            files.write_text(partial / "ids.txt", "".join(f"{photo}\n" for photo in self.ids))
            files.write_json(partial / "meta.json", self.meta)

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: list[str] | tuple[str, ...], what: str) -> np.ndarray:
        """Returns the vectors of the named photos, in that order; all of them in their own order are not copied.

        Args:
            ids: photo ids.
            what: the descriptors' role, for the error's sentence ("the queries' descriptors").

        Returns:
            float32 [len(ids), D]; memory-mapped, and not to be written to, where they are all of these descriptors.

        Raises:
            InputError: some ids have no descriptor; the sentence names the first and counts them.
        """
        if tuple(ids) == self.ids:
            return self.vectors
        row_of = {photo: row for row, photo in enumerate(self.ids)}
        missing = [photo for photo in ids if photo not in row_of]
        if missing:
            raise InputError(
                f"{what} lack {len(missing)} of {len(ids)} photos, first {missing[0]!r}; extract them again."
            )
        return np.asarray(self.vectors[[row_of[photo] for photo in ids]])
