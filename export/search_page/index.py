"""The index of the page: saved descriptors of photos, or of their objects, searched exactly."""

import dataclasses
from pathlib import Path

import numpy as np

from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.object_descriptors import ObjectDescriptors, is_object_directory
from tfretrieval.search.exact import search_top
from tfretrieval.search.object_search import DescriptorSets, ObjectSearch, best_pairs
from tfretrieval.search.ranking import Ranking


@dataclasses.dataclass(frozen=True)
class Hit:
    """An indexed photo that was found.

    Attributes:
        row: its row.
        score: its similarity, in [-1, 1].
        photo_object: place of its object that matched; -1 for the whole photo, None in an index of photos.
        query_object: place of the query's object that it matched; -1 for the whole, None likewise.
    """

    row: int
    score: float
    photo_object: int | None = None
    query_object: int | None = None


class PhotoIndex:
    """Saved descriptors that can be searched. Threads may share it.

    Args:
        found: descriptors of photos, or of the objects in photos.
        name: what they are called in messages: their directory.

    Attributes:
        name: see above.
        ids: N photo ids.
        dimension: D.
        meta: what made the descriptors.
        objects: the descriptors of objects; None in an index of photos.

    Raises:
        InputError: there are no photos.
    """

    def __init__(self, found: Descriptors | ObjectDescriptors, name: str):
        self.name, self.meta = name, found.meta
        self.objects = found if isinstance(found, ObjectDescriptors) else None
        self.ids = found.photos if self.objects else found.ids
        self.dimension = found.vectors.shape[1]
        self._vectors = found.vectors
        if not self.ids:
            raise InputError(f"--index={name} holds no photo; some are wanted.")
        self._sets = (
            DescriptorSets(found.objects.offsets, found.vectors, found.whole) if self.objects is not None else None
        )

    @classmethod
    def load(cls, directory: str | Path) -> "PhotoIndex":
        """Opens what `pipelines.extract` wrote, with or without --objects; vectors are memory-mapped.

        Raises:
            InputError: the directory does not hold descriptors, or see the class.
        """
        kind = ObjectDescriptors if is_object_directory(directory) else Descriptors
        return cls(kind.load(directory), str(directory))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def model_sha256(self) -> str | None:
        """The hash of the model that made the descriptors, where it was noted."""
        return self.meta.get("model_sha256")

    def search(self, query: DescriptorSets, k: int, without: int | None = None) -> list[Hit]:
        """Finds the most similar photos, exactly.

        In an index of objects the similarity of a photo is the largest dot product of an object of the query with one
        of the photo; where either has no object, its whole stands for it. A photo with nothing to compare is not found.

        Args:
            query: one set.
            k: photos wanted.
            without: a row that is left out: the query's own.

        Raises:
            InputError: the query has another dimension.
        """
        more = k + (without is not None)
        if self._sets is None:
            ranking = search_top(query.filled().vectors, self._vectors, more)
            pairs = zip(ranking.order[0].tolist(), ranking.similarity[0].tolist(), strict=True)
            return [Hit(row, score) for row, score in pairs if row != without][:k]
        search = ObjectSearch("max")
        search.check(query, self._sets)
        scores = search.scores(query, self._sets)
        ranking = _best(scores, more)
        matches = best_pairs(query, self._sets, ranking.order)
        columns = (ranking.order, ranking.similarity, matches.photo_object, matches.query_object)
        rows = zip(*(column[0].tolist() for column in columns), strict=True)
        return [Hit(*values) for values in rows if values[0] != without and np.isfinite(values[1])][:k]

    def set_of(self, row: int) -> DescriptorSets:
        """Returns a photo's own descriptors, as a query."""
        if self._sets is None:
            return DescriptorSets.single(np.asarray(self._vectors[row : row + 1]))
        return self._sets.take(np.array([row]))

    def boxes(self, row: int) -> np.ndarray:
        """Returns the boxes of a photo's objects, float32 [K, 4]: top, left, bottom, right as shares of its sides."""
        if self.objects is None:
            return np.zeros((0, 4), np.float32)
        offsets = self.objects.objects.offsets
        return self.objects.objects.boxes[offsets[row] : offsets[row + 1]]

    def class_name(self, row: int, number: int) -> str:
        """Returns the name of the class of one of a photo's objects."""
        objects = self.objects.objects
        return objects.class_names[objects.classes[objects.offsets[row] + number]]


def _best(scores: np.ndarray, k: int) -> Ranking:
    """Returns the k best columns of float32 [1, N], of equal ones the lower first."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Ranking(order.astype(np.int32), np.take_along_axis(scores, order, axis=1))
