"""What a stream of photos yields: one value for each photo, in the photos' order."""

import dataclasses

import numpy as np

from export.client.batches import Batch
from export.described_objects import DescribedObject, ObjectArrays


@dataclasses.dataclass(frozen=True, eq=False)
class PhotoDescriptor:
    """A photo that was described.

    Attributes:
        id: its name.
        place: its place among the photos of the stream, from 0.
        descriptor: float32 [D].
    """

    id: str
    place: int
    descriptor: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class PhotoWithObjects:
    """A photo that was described with its objects.

    Attributes:
        id: its name.
        place: its place among the photos of the stream, from 0.
        descriptor: float32 [D], of the whole photo.
        objects: best first.
    """

    id: str
    place: int
    descriptor: np.ndarray
    objects: tuple[DescribedObject, ...]


@dataclasses.dataclass(frozen=True)
class RefusedPhoto:
    """A photo that the server refused.

    Attributes:
        id: its name.
        place: its place among the photos of the stream, from 0.
        reason: what is wrong with it.
    """

    id: str
    place: int
    reason: str


PhotoResult = PhotoDescriptor | PhotoWithObjects | RefusedPhoto


def results_of(batch: Batch, rows: np.ndarray | ObjectArrays) -> list[PhotoResult]:
    """Returns a value for each photo of a batch from the arrays of its answer.

    Args:
        batch: N photos with ids.
        rows: float32 [N, D], or the N photos' objects.
    """
    named = zip(batch.ids, batch.places, strict=True)
    if isinstance(rows, ObjectArrays):
        return [
            PhotoWithObjects(*name, photo.descriptor, photo.objects)
            for name, photo in zip(named, rows.photos(), strict=True)
        ]
    return [PhotoDescriptor(*name, row) for name, row in zip(named, rows, strict=True)]
