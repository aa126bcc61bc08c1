"""What the page can be asked: to search, to say why, and to list the index."""

import dataclasses
import math
import time
from collections.abc import Mapping

import numpy as np

from export.described_objects import DescribedObject
from export.search_page import pictures, why
from export.search_page.errors import PageError
from export.search_page.index import Hit, PhotoIndex
from export.search_page.model_server import ModelServer
from export.search_page.pictures import Pictures
from tfretrieval.data.query_crops import pixel_window
from tfretrieval.evaluation.album import Photos
from tfretrieval.search.object_search import WHOLE, DescriptorSets

Shares = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Query:
    """What is searched with.

    Attributes:
        photo: a photo's file; None for an indexed photo.
        row: the indexed photo's row; None for a file.
        box: left, top, right, bottom as shares of the upright photo's sides; None for the whole.

    Raises:
        PageError: 400 where neither or both are given, or the box is none.
    """

    photo: bytes | None = None
    row: int | None = None
    box: Shares | None = None

    def __post_init__(self):
        if (self.photo is None) == (self.row is None):
            raise PageError(400, "Either a photo or the number of an indexed photo is wanted.")
        if self.photo == b"":
            raise PageError(400, "The file is empty; a photo is wanted.")
        if self.box is not None:
            left, top, right, bottom = self.box
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):  # so that NaN is refused too
                raise PageError(400, "The box is not left, top, right, bottom in shares of the photo's sides.")


class SearchPage:
    """Answers what the page asks, as values for JSON. Threads may share it.

    Args:
        index: what is searched.
        photos: the index's photos, in its order.
        server: describes photos.
        results: photos in an answer, at most.
        contributions: tells what a network's positions add; None where they are not told.
    """

    def __init__(
        self,
        index: PhotoIndex,
        photos: Photos,
        server: ModelServer,
        results: int = 60,
        contributions: why.Contributions | None = None,
    ):
        self.pictures = Pictures(photos)
        self._index, self._photos, self._server, self._results = index, photos, server, results
        self._contributions = contributions
        self._found_by = [f"{photo}\n{photos.label(row)}".lower() for row, photo in enumerate(index.ids)]

    def about(self) -> dict:
        """Returns what is searched."""
        return {
            "photos": len(self._index),
            "dimension": self._index.dimension,
            "index": self._index.name,
            "server": self._server.address,
            "objects": self._index.objects is not None,
        }

    def server(self) -> dict:
        """Returns the model server's `image_size`, where its model tells it.

        Raises:
            PageError: it does not answer, or its model is not that of the index; see `ModelServer.describe`.
        """
        return {"image_size": self._server.check(self._index).get("image_size")}

    def photos(self, start: int, count: int, text: str) -> dict:
        """Lists indexed photos whose id or name holds a text, in the index's order.

        Args:
            start: the first that is listed, from 0.
            count: how many are listed at most.
            text: what to look for, in any case; empty for all.
        """
        text = text.strip().lower()
        rows = [row for row, told in enumerate(self._found_by) if text in told] if text else range(len(self._index))
        return {"total": len(rows), "photos": [self._told(row) for row in rows[start : start + count]]}

    def search(self, query: Query) -> dict:
        """Searches with a photo, a part of it, or an indexed photo.

        Returns:
            `results`, best first; the `objects` of the query, `by` what was searched, and `milliseconds` it took.

        Raises:
            PageError: see `ModelServer.describe`; 404 where an indexed photo is not there.
        """
        start = time.perf_counter()
        if query.row is not None:
            self.check_row(query.row)
        query_set, objects = self._described(query)
        found = self._index.search(query_set, self._results, query.row)
        # An index of photos knows no objects: what the query shows is offered, and the whole of it was searched with.
        with_objects = self._index.objects is not None and query_set.counts()[0] > 0 and query.box is None and objects
        return {
            "results": [self._result(hit) for hit in found],
            "objects": objects,
            "by": "box" if query.box else "objects" if with_objects else "photo",
            "searched": len(self._index),
            "milliseconds": round(1000 * (time.perf_counter() - start), 1),
            **({"query": self._told(query.row)} if query.row is not None else {}),
        }

    def why(self, query: Query, row: int) -> dict:
        """Says what a query and an indexed photo share.

        Returns:
            `places` as `why.places` has them; `heat`, two pictures, where a network is at hand for them.

        Raises:
            PageError: a photo is not there, or is broken.
        """
        self.check_row(row)
        if query.row is not None:
            self.check_row(query.row)
        photo = pictures.upright(self._file(query), pictures.LARGE)
        window = _window(query.box or (0.0, 0.0, 1.0, 1.0), photo.size)
        other = pictures.upright(self.pictures.encoded(row), pictures.LARGE)
        told = {"places": why.places(photo, window, other)}
        if self._contributions is not None:
            told["heat"] = self._contributions.pictures(photo, window, other)
        return told

    def check_row(self, row: int) -> None:
        """Checks that there is a photo.

        Raises:
            PageError: 404 where there is none.
        """
        if not 0 <= row < len(self._index):
            raise PageError(404, f"There is no photo {row}; the index has {len(self._index)}, from 0 on.")

    def _described(self, query: Query) -> tuple[DescriptorSets, list[dict]]:
        """Returns the query's descriptors and what is told of its objects."""
        if query.row is not None and query.box is None:
            return self._index.set_of(query.row), self._indexed_objects(query.row)
        photo = self._file(query)
        size = pictures.upright_size(photo)
        box = None if query.box is None else tuple(map(float, _window(query.box, size)))
        described = self._server.describe(photo, box, self._index)
        objects = [_told_object(found, size) for found in described.objects]
        whole = described.vector[None]
        if self._index.objects is None or not described.objects:
            return DescriptorSets.single(whole), objects
        vectors = np.stack([found.descriptor for found in described.objects])
        return DescriptorSets(np.array([0, len(vectors)]), vectors, whole), objects

    def _file(self, query: Query) -> bytes:
        return query.photo if query.row is None else self.pictures.encoded(query.row)

    def _indexed_objects(self, row: int) -> list[dict]:
        boxes = self._index.boxes(row).tolist()
        names = [self._index.class_name(row, number) for number in range(len(boxes))]
        return [{"box": _left_first(box), "name": name} for box, name in zip(boxes, names, strict=True)]

    def _told(self, row: int) -> dict:
        return {"row": row, "id": self._index.ids[row], "name": ", ".join(self._photos.names(row))}

    def _result(self, hit: Hit) -> dict:
        told: dict = {**self._told(hit.row), "score": round(hit.score, 4)}
        if hit.photo_object is None:
            return told
        told["boxes"] = [_left_first(box) for box in self._index.boxes(hit.row).tolist()]
        told["matched"], told["like"] = hit.photo_object, hit.query_object
        if hit.photo_object != WHOLE:
            told["class"] = self._index.class_name(hit.row, hit.photo_object)
        return told


def _window(box: Shares, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns a box of shares in whole pixels of a photo of (width, height), of one pixel at least and inside it."""
    width, height = size
    left, top = min(int(box[0] * width), width - 1), min(int(box[1] * height), height - 1)
    right, bottom = max(math.ceil(box[2] * width), left + 1), max(math.ceil(box[3] * height), top + 1)
    return pixel_window((left, top, min(right, width), min(bottom, height)))


def _left_first(box: list[float]) -> list[float]:
    """Returns left, top, right, bottom of top, left, bottom, right."""
    return [round(box[place], 4) for place in (1, 0, 3, 2)]


def _told_object(found: DescribedObject, size: tuple[int, int]) -> Mapping[str, object]:
    width, height = size
    shares = np.clip(np.array(found.box) / (height, width, height, width), 0.0, 1.0)
    return {"box": _left_first(shares.tolist()), "name": found.class_name, "score": round(found.score, 3)}
