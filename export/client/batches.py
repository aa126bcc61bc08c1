"""Photos in batches that a request can hold, made one by one so that only those needed are in memory."""

import dataclasses
from collections.abc import Iterable, Iterator


@dataclasses.dataclass(frozen=True)
class BatchLimits:
    """How much goes into one request.

    Attributes:
        max_bytes: encoded bytes; a photo that is larger alone goes alone.
        max_photos: photos, at least 1.

    Raises:
        ValueError: a number is below 1.
    """

    max_bytes: int = 8 * 2**20
    max_photos: int = 32

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"{name} is {value}; 1 or more is wanted.")


@dataclasses.dataclass(frozen=True)
class Batch:
    """Photos of one request.

    Attributes:
        places: each photo's place among all of the caller's.
        photos: their encoded bytes.
        ids: their names; empty where the caller gave none.
    """

    places: tuple[int, ...]
    photos: tuple[bytes, ...]
    ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: Iterable[int]) -> "Batch":
        """Returns the batch of some of its photos."""
        rows = list(rows)
        parts = (tuple(part[row] for row in rows) if part else () for part in (self.places, self.photos, self.ids))
        return Batch(*parts)


class Batcher:
    """Puts photos, one after another, into batches.

    Args:
        limits: of each batch.
        named: whether photos come as (id, bytes).
    """

    def __init__(self, limits: BatchLimits, named: bool = False):
        self._limits, self._named = limits, named
        self._next, self._size = 0, 0
        self._photos: list[bytes] = []
        self._ids: list[str] = []

    def add(self, item: bytes | tuple[str, bytes]) -> Batch | None:
        """Takes a photo; returns the photos before it, where it does not go with them.

        Raises:
            TypeError: the photo is not bytes, or is not named where names are wanted.
        """
        name, photo = self._checked(item)
        full = len(self._photos) == self._limits.max_photos or self._size + len(photo) > self._limits.max_bytes
        batch = self.rest() if full else None
        self._photos.append(photo)
        self._ids += [name] if self._named else []
        self._size += len(photo)
        self._next += 1
        return batch

    def rest(self) -> Batch | None:
        """Returns the photos that are in no batch yet; None where there are none."""
        if not self._photos:
            return None
        places = tuple(range(self._next - len(self._photos), self._next))
        batch = Batch(places, tuple(self._photos), tuple(self._ids))
        self._photos, self._ids, self._size = [], [], 0
        return batch

    def _checked(self, item: object) -> tuple[str, bytes]:
        if self._named and not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)):
            raise TypeError(f"photo {self._next} is a {type(item).__name__}; wanted a pair (id, bytes).")
        name, photo = item if self._named else ("", item)
        if not isinstance(photo, bytes):
            raise TypeError(f"photo {self._next} is a {type(photo).__name__}; wanted the bytes of an encoded image.")
        return name, photo


def in_batches(photos: Iterable, limits: BatchLimits, named: bool = False) -> Iterator[Batch]:
    """Yields photos in batches, in order; see `Batcher`.

    Raises:
        TypeError: a photo is not bytes, or is not named where names are wanted.
    """
    batcher = Batcher(limits, named)
    for photo in photos:
        if batch := batcher.add(photo):
            yield batch
    if batch := batcher.rest():
        yield batch


def split_batches(photos: Iterable[bytes], max_bytes: int, max_photos: int) -> Iterator[list[bytes]]:
    """Yields photos in batches of at most `max_photos` and `max_bytes`, in order; a larger photo goes alone.

    Raises:
        TypeError: a photo is not bytes.
    """
    for batch in in_batches(photos, BatchLimits(max_bytes, max_photos)):
        yield list(batch.photos)
