"""How far the ways to describe photos agree: on records, on photos as they are sent, and in any company."""

import dataclasses
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path

import keras
import numpy as np

from benchmarks import grocery
from benchmarks.served.odd_photos import broken_photos
from benchmarks.served.served_ways import MOST_PIXELS, RefusedError, Way, as_evaluated, served_ways
from export import parity
from export.describing import encoded_photos
from tfretrieval.data.photos import PhotoError, prepare_photo
from tfretrieval.data.record_set import Split
from tfretrieval.data.sources import PhotoEntry
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.errors import InputError
from tfretrieval.extraction import Extractor

SENDERS = 12


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far ways agree.

    Attributes:
        photos: number of photos.
        min_cosine: smallest cosine between descriptors of one photo.
        worst: name of the photo and of the way that have it.
        next_cosine: largest cosine between descriptors of two different photos, a median over photos: what the check
            would read if it mixed photos up.
    """

    photos: int
    min_cosine: float
    worst: str
    next_cosine: float


def agreement(names: Sequence[str], expected: np.ndarray, found: dict[str, np.ndarray]) -> Agreement:
    """Compares descriptors [N, D] of several ways with those expected.

    Raises:
        InputError: the shapes differ, or there are no photos.
    """
    parity.compare({"expected": expected, **found})
    cosines = {way: (expected.astype(np.float64) * vectors).sum(axis=1) for way, vectors in found.items()}
    worst = min(cosines, key=lambda way: cosines[way].min())
    others = expected @ expected.T - 2 * np.eye(len(expected), dtype=np.float32)
    return Agreement(
        len(names),
        float(cosines[worst].min()),
        f"{names[int(cosines[worst].argmin())]} by {worst}",
        float(np.median(others.max(axis=1))) if len(names) > 1 else -1.0,
    )


def record_split(photos: dict[str, bytes], folder: Path) -> Split:
    """Writes photos as records, as `pipelines.make_records` does, and returns their split."""
    entries = []
    for number, (name, encoded) in enumerate(photos.items()):
        path = folder / "photos" / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
        entries.append(PhotoEntry(name, path, "photo", "database"))
    made, rejected = write_record_set(entries, folder / "records", WriteOptions("parity", max_rejected=0))
    if rejected:
        raise InputError(f"{rejected[0].photo_id} is not taken for a record: {rejected[0].reason}.")
    return made.split("database")


def in_company(way: Way, photos: Sequence[bytes], alone: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Describes photos in batches drawn at random; returns the descriptors in the order of `photos`, by the draw."""
    random, found = np.random.default_rng(seed), {}
    for draw in range(2):
        order, at = random.permutation(len(photos)), 0
        vectors = np.empty_like(alone)
        while at < len(photos):
            rows = order[at : at + int(random.integers(1, 33))]
            vectors[rows] = way([photos[row] for row in rows])
            at += len(rows)
        found[f"batches of draw {draw}"] = vectors
    return found


def beside_broken(way: Way, photos: Sequence[bytes], broken: Sequence[bytes]) -> tuple[np.ndarray, int]:
    """Sends each photo by itself while others send broken ones, so that the server puts them into one batch.

    Returns:
        The descriptors, and how many broken photos were refused.
    """

    def refused(photo: bytes) -> bool:
        try:
            way([photo])
        except RefusedError:
            return True
        return False

    with futures.ThreadPoolExecutor(SENDERS) as pool:
        good, bad = [], []
        for number, photo in enumerate(photos):
            good.append(pool.submit(way, [photo]))
            if number % 3 == 0:
                bad.append(pool.submit(refused, broken[number // 3 % len(broken)]))
        return np.concatenate([each.result() for each in good]), sum(each.result() for each in bad)


def taken_although_broken(ways: dict[str, Way], good: bytes, broken: dict[str, bytes]) -> list[str]:
    """Returns which broken photos were not refused, by themselves and in the middle of a batch, and by what."""
    found = []
    for name, encoded in broken.items():
        try:
            prepare_photo(encoded, MOST_PIXELS)
            found.append(f"{name} by make_records")
        except PhotoError:
            pass
        for way, describe in ways.items():
            for photos, row in (([encoded], 0), ([good, encoded, good], 1)):
                try:
                    describe(photos)
                    found.append(f"{name} by {way}")
                except RefusedError as error:
                    if way in ("gRPC", "REST") and f"image_bytes[{row}]" not in str(error):
                        found.append(f"{name} by {way}, which does not name it: {error}")
    return found


def measure(
    network: keras.Model, size: int, version: Path, server: object, photos: dict[str, bytes], seed: int, folder: Path
) -> dict:
    """Compares everything.

    Args:
        network: the Keras network.
        size: longer side that photos are resized to.
        version: its export.
        server: a server of the export that batches requests, with `grpc_address` and `rest_url`.
        photos: encoded photos by name.
        seed: of the batches.
        folder: for records; empty.

    Returns:
        `records`, `sent`, `in_company`: an `Agreement` each; `broken_taken`: what should have been refused.
    """
    names, sent = list(photos), list(photos.values())
    split = record_split(photos, folder / "as_made")
    lossless = record_split({name: as_evaluated(photo) for name, photo in photos.items()}, folder / "lossless")
    records = list(encoded_photos(split))
    broken = broken_photos(seed)
    with served_ways(version, server.grpc_address, server.rest_url) as ways:
        extractor = Extractor(network, size)
        found = {"records": agreement(split.ids, extractor(split), {way: ask(records) for way, ask in ways.items()})}
        expected = extractor(lossless)[[lossless.ids.index(name) for name in names]]
        found["sent"] = agreement(names, expected, {way: ask(sent) for way, ask in ways.items()})
        alone = np.concatenate([ways["gRPC"]([photo]) for photo in sent])
        company = in_company(ways["SavedModel"], sent, alone, seed)
        for way in ("gRPC", "REST"):
            company[f"{way} beside broken photos"], refused = beside_broken(ways[way], sent, list(broken.values()))
            if refused != (len(sent) + 2) // 3:
                raise AssertionError(f"{refused} broken photos were refused over {way}")
        found["in_company"] = agreement(names, alone, company)
        taken = taken_although_broken(ways, sent[0], broken)
    return {**{what: dataclasses.asdict(each) for what, each in found.items()}, "broken_taken": taken}


def real_photos(data: Path, count: int) -> dict[str, bytes]:
    """Returns photos of GroceryStoreDataset, spread over its list; none where it is not there."""
    if not data.is_dir():
        print(f"{data} is not there: no real photos are compared.")
        return {}
    listed = [photo for photo, _, _ in grocery.listed_photos(data, "test.txt")]
    chosen = sorted(set(np.linspace(0, len(listed) - 1, count).astype(int).tolist()))
    return {listed[place]: (data / listed[place]).read_bytes() for place in chosen}
