"""Extraction shard by shard: progress, shares of the time, and nothing done twice after a start that was cut off."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from tfretrieval import files
from tfretrieval.errors import InputError
from tfretrieval.sharded_descriptors import LOCK, Part, ShardedDescriptors

SPEED = "speed.json"


@dataclasses.dataclass
class Speed:
    """How an extraction goes, of the photos that this start describes.

    Attributes:
        photos: how many.
        seconds: how long.
        writing: seconds in which shards were written.
        network: seconds in which the devices computed, by their mean; None where that is not known.
    """

    photos: int = 0
    seconds: float = 0.0
    writing: float = 0.0
    network: float | None = None

    @property
    def photos_per_second(self) -> float:
        """The rate, 0 where nothing was done."""
        return self.photos / self.seconds if self.seconds else 0.0

    def shares(self) -> dict[str, float]:
        """Returns what the time went into, by shares of it: the network, waiting for decoded photos, and writing."""
        if self.network is None or not self.seconds:
            return {}
        writing = min(1.0, self.writing / self.seconds)
        network = min(1 - writing, self.network / self.seconds)  # devices may compute while a shard is written
        return {"network": network, "decode": 1 - writing - network, "write": writing}

    def as_json(self) -> dict:
        """Returns the figures for a file."""
        shares = {name: round(share, 4) for name, share in self.shares().items()}
        return {"photos": self.photos, "photos_per_second": round(self.photos_per_second, 3), "share_of_time": shares}

    def __str__(self) -> str:
        return ", ".join(f"{name} {share:.0%}" for name, share in self.shares().items())


@dataclasses.dataclass(frozen=True)
class PartDescriber:
    """Something that describes neighbouring photos of a split.

    Attributes:
        parts: (rows of each part, update) -> an iterator over their descriptors in this order, which does not begin
            with a part before the one before it was taken and the next asked for; `update` is called with numbers of
            photos as they are done.
        busy: returns for how many seconds its devices have computed by now, by their mean; None where nobody knows.
    """

    parts: Callable[[Sequence[range], Callable[[int], None]], Iterator[Part]]
    busy: Callable[[], float] | None = None


def extract_shards(
    work: ShardedDescriptors,
    describer: PartDescriber,
    ids: Sequence[str],
    split: str,
    meta: Mapping[str, object],
    max_rejected: float = 1.0,
    progress: Callable[[int], object] | None = None,
) -> Speed:
    """Describes what is still to be done, shard by shard, and makes it one directory of descriptors.

    Args:
        work: the directory.
        describer: what describes its photos.
        ids: ids of the N photos.
        split: the split's name.
        meta: what makes the descriptors, for `meta.json`.
        max_rejected: share of the photos, in [0, 1], above which the work stops.
        progress: makes a bar, with `update(n)` and `close()`, from the number of photos to be done; it is told what
            the time goes into where it has `set_postfix_str(text, refresh)`.

    Raises:
        InputError: another process is at work there, or too many photos were rejected.
    """
    with files.locked(work.directory / LOCK, f"{work.directory} is being written by another process; one is wanted."):
        missing = work.missing()
        speed = _describe(work, missing, describer, ids, max_rejected, progress) if missing else Speed()
        if missing:
            files.write_json(work.directory / SPEED, speed.as_json())
        work.finish(ids, split, meta)
    (work.directory / LOCK).unlink(missing_ok=True)
    return speed


def _describe(
    work: ShardedDescriptors,
    missing: Sequence[int],
    describer: PartDescriber,
    ids: Sequence[str],
    max_rejected: float,
    progress: Callable[[int], object] | None,
) -> Speed:
    parts, done = [work.rows(shard) for shard in missing], sorted({*range(work.shards)} - {*missing})
    rejected = work.rejected(done)
    bar = progress(sum(map(len, parts))) if progress else None
    speed, start, before = Speed(), time.perf_counter(), describer.busy() if describer.busy else None

    def update(photos: int) -> None:
        speed.photos += photos
        speed.seconds = time.perf_counter() - start
        if before is not None:
            speed.network = describer.busy() - before
        if bar is not None:
            if hasattr(bar, "set_postfix_str"):
                bar.set_postfix_str(str(speed), refresh=False)
            bar.update(photos)

    try:
        for shard, part in zip(missing, describer.parts(parts, update), strict=True):
            writing = time.perf_counter()
            work.commit(shard, part)
            speed.writing += time.perf_counter() - writing
            rejected |= part.rejected
            _check_rejected(work, rejected, ids, max_rejected)
    finally:
        if bar is not None:
            bar.close()
    update(0)
    return speed


def _check_rejected(
    work: ShardedDescriptors, rejected: Mapping[int, str], ids: Sequence[str], max_rejected: float
) -> None:
    if len(rejected) > max_rejected * work.photos:
        row = min(rejected)
        raise InputError(
            f"{len(rejected)} of {work.photos} photos had to be rejected so far (first {ids[row]!r}: {rejected[row]}); "
            f"--max_rejected allows a share of {max_rejected}; shards that are done stay."
        )
