"""Vector databases behind one small interface: descriptors go in by batches, searches come back as a `Ranking`."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.search.ranking import Ranking

BATCH = 512
PHOTO = "photo"


class VectorStore(Protocol):
    """A collection of a vector database, its points numbered by the rows of the descriptors they were made from."""

    def upsert(self, first_row: int, ids: Sequence[str], vectors: np.ndarray, about: Sequence[Mapping]) -> None:
        """Adds points, or replaces those of the same rows.

        Args:
            first_row: row of the first one.
            ids: photo ids.
            vectors: float32 [n, D].
            about: for each, further values to keep with it.
        """

    def query(self, queries: np.ndarray, k: int, exact: bool) -> list[list[tuple[int, float]]]:
        """Returns for each query, float32 [Q, D], up to k pairs (row, dot product)."""


def upsert(
    store: VectorStore,
    descriptors: Descriptors,
    columns: Mapping[str, Sequence] | None = None,
    batch: int = BATCH,
    first_row: int = 0,
) -> None:
    """Puts descriptors into a store, batch by batch; doing it again changes nothing.

    Args:
        store: the store.
        descriptors: N descriptors.
        columns: further values by name, each of N.
        batch: points in one request.
        first_row: number of the first point, where earlier descriptors stand before these.

    Raises:
        InputError: a column has another length or the name "photo", or a batch would be empty.
    """
    columns = dict(columns or {})
    for name, values in columns.items():
        if name == PHOTO or len(values) != len(descriptors):
            raise InputError(
                f"the column {name!r} has {len(values)} values for {len(descriptors)} photos; one each is wanted, by "
                f"another name than {PHOTO!r}."
            )
    if batch < 1:
        raise InputError(f"batches of {batch} points are asked for; 1 or more is wanted.")
    for first in range(0, len(descriptors), batch):
        ids = descriptors.ids[first : first + batch]
        about = [{name: _plain(values[row]) for name, values in columns.items()} for row in _rows(first, len(ids))]
        store.upsert(first_row + first, ids, np.asarray(descriptors.vectors[first : first + batch]), about)


def search(store: VectorStore, queries: np.ndarray, k: int, exact: bool = True, batch: int = 64) -> Ranking:
    """Searches a store.

    Args:
        store: the store.
        queries: float32 [Q, D].
        k: rows wanted for each query.
        exact: whether every point is compared; otherwise the database's own index decides.
        batch: queries in one request.

    Returns:
        `Ranking` [Q, K], K the number of points that the database returns, k unless it holds fewer. Of equal
        similarities the lower row comes first; which of them are among the k is the database's matter.

    Raises:
        InputError: k is below 1, or an approximate search returns different numbers of points.
    """
    if k < 1:
        raise InputError(f"{k} most similar photos are asked for; at least 1 is wanted.")
    found = list(itertools.chain.from_iterable(_answers(store, queries, k, exact, batch)))
    counts = {len(points) for points in found}
    if len(counts) > 1:
        raise InputError(f"the database returns {min(counts)} to {max(counts)} points a query; search with exact=True.")
    sorted_points = [sorted(points, key=lambda point: (-point[1], point[0])) for points in found]
    shape = len(queries), counts.pop() if counts else 0
    order = np.array([[row for row, _ in points] for points in sorted_points], np.int32).reshape(shape)
    similarity = np.array([[value for _, value in points] for points in sorted_points], np.float32).reshape(shape)
    return Ranking(order, similarity)


class QdrantStore:
    """A collection of Qdrant, on a server or in a folder of this machine.

    Args:
        client: a `qdrant_client.QdrantClient`: of a server's address, of a folder, or of ":memory:".
        collection: its name; it is made where it is not there.
        dimension: D.
    """

    def __init__(self, client: object, collection: str, dimension: int):
        from qdrant_client import models

        self._client, self._collection, self._models = client, collection, models
        if not client.collection_exists(collection):
            # Not cosine, for which Qdrant normalises once more and changes the last bits.
            config = models.VectorParams(size=dimension, distance=models.Distance.DOT)
            client.create_collection(collection, vectors_config=config)

    def upsert(self, first_row: int, ids: Sequence[str], vectors: np.ndarray, about: Sequence[Mapping]) -> None:
        """See `VectorStore`."""
        payloads = [{PHOTO: photo, **more} for photo, more in zip(ids, about, strict=True)]
        points = self._models.Batch(ids=[*_rows(first_row, len(ids))], vectors=vectors.tolist(), payloads=payloads)
        self._client.upsert(self._collection, points, wait=True)

    def query(self, queries: np.ndarray, k: int, exact: bool) -> list[list[tuple[int, float]]]:
        """See `VectorStore`."""
        how = self._models.SearchParams(exact=exact)
        asked = [self._models.QueryRequest(query=query, limit=k, params=how) for query in queries.tolist()]
        answers = self._client.query_batch_points(self._collection, asked)
        return [[(point.id, point.score) for point in answer.points] for answer in answers]


class MilvusStore:
    """A collection of Milvus, on a server or, with milvus-lite, in a file of this machine.

    Args:
        client: a `pymilvus.MilvusClient`: of a server's address or of a file's name.
        collection: its name; it is made where it is not there.
        dimension: D.
    """

    def __init__(self, client: object, collection: str, dimension: int):
        self._client, self._collection = client, collection
        if not client.has_collection(collection):
            # FLAT compares every point; for an index of another kind, make the collection before.
            client.create_collection(
                collection, dimension=dimension, metric_type="IP", index_type="FLAT", consistency_level="Strong"
            )

    def upsert(self, first_row: int, ids: Sequence[str], vectors: np.ndarray, about: Sequence[Mapping]) -> None:
        """See `VectorStore`."""
        rows = zip(_rows(first_row, len(ids)), ids, vectors, about, strict=True)
        points = [{"id": row, "vector": vector.tolist(), PHOTO: photo, **more} for row, photo, vector, more in rows]
        self._client.upsert(self._collection, points)

    def query(self, queries: np.ndarray, k: int, exact: bool) -> list[list[tuple[int, float]]]:
        """See `VectorStore`; whether the search is exact is the matter of the collection's index."""
        answers = self._client.search(self._collection, data=queries.tolist(), limit=k)
        return [[(hit["id"], hit["distance"]) for hit in answer] for answer in answers]


def _answers(
    store: VectorStore, queries: np.ndarray, k: int, exact: bool, batch: int
) -> Iterator[list[list[tuple[int, float]]]]:
    for first in range(0, len(queries), batch):
        yield store.query(queries[first : first + batch], k, exact)


def _rows(first: int, count: int) -> range:
    return range(first, first + count)


def _plain(value: object) -> object:
    """Returns NumPy's numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value
