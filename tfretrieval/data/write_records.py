"""Writing of record sets: photos in, shards out, atomically and with equal bytes for equal input."""

import collections
import csv
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow as tf

from tfretrieval import files, provenance
from tfretrieval.data import record_set, records
from tfretrieval.data.photos import PhotoError, RecordPhoto, prepare_photo
from tfretrieval.data.sources import SPLITS, PhotoEntry
from tfretrieval.errors import InputError

DEFAULT_MAX_PIXELS = 100_000_000
PHOTOS_PER_SHARD = 1024


@dataclasses.dataclass(frozen=True)
class WriteOptions:
    """How a record set is written.

    Attributes:
        name: the set's name; written in `dataset.json` and `benchmark.json`.
        shards: shards of each split; 0 makes one for every 1,024 photos.
        max_pixels: photos with more pixels (height * width) are rejected from their header.
        max_rejected: share of photos, in [0, 1], above which nothing is written.
        flags: the flags to note in `dataset.json`.
        seed: the seed to note there.
    """

    name: str
    shards: int = 0
    max_pixels: int = DEFAULT_MAX_PIXELS
    max_rejected: float = 0.1
    flags: Mapping[str, object] = dataclasses.field(default_factory=dict)
    seed: int | None = None


@dataclasses.dataclass(frozen=True)
class Rejected:
    """A photo that was left out, and why."""

    photo_id: str
    split: str
    reason: str


def write_record_set(
    entries: list[PhotoEntry], output: str | Path, options: WriteOptions, progress=iter
) -> tuple[record_set.RecordSet, list[Rejected]]:
    """Reads photos and writes a record set; with queries or database among them, a benchmark directory too.

    Args:
        entries: the photos of a source.
        output: the directory; appears when everything is written, and replaces an earlier record set there.
        options: how to write.
        progress: called with the iterator over the entries, returns one that shows progress (a tqdm, say).

    Returns:
        The record set as it stands on disk, and the photos that were rejected (also in its `rejected.csv`).

    Raises:
        InputError: more photos than `max_rejected` had to be rejected, a split lost all of its photos, an option is
            out of range, or the output holds something else.
    """
    if options.shards < 0:
        raise InputError(
            f"--shards is {options.shards}; 1 or more, or 0 for one per {PHOTOS_PER_SHARD} photos, is wanted."
        )
    if not 0 <= options.max_rejected <= 1:
        raise InputError(f"--max_rejected is {options.max_rejected}; a share from 0 to 1 is wanted.")
    if options.max_pixels < 1:
        raise InputError(f"--max_pixels is {options.max_pixels}; 1 or more is wanted.")
    with files.atomic_directory(output, marker=record_set.DESCRIPTION) as partial:
        rejected = _write_splits(entries, partial, options, progress)
    return record_set.RecordSet.load(output), rejected


def _write_splits(entries: list[PhotoEntry], directory: Path, options: WriteOptions, progress) -> list[Rejected]:
    labels = sorted({entry.instance for entry in entries})
    label_of = {instance: label for label, instance in enumerate(labels)}
    by_split = {split: [entry for entry in entries if entry.split == split] for split in SPLITS}
    by_split = {split: group for split, group in by_split.items() if group}
    stream = progress(_prepared([entry for group in by_split.values() for entry in group], options.max_pixels))
    rejected: list[Rejected] = []
    splits, index = {}, []
    for split, group in by_split.items():
        count = options.shards or -(-len(group) // PHOTOS_PER_SHARD)
        writer = _SplitWriter(directory, split, len(group), min(count, len(group)))
        for entry in group:
            prepared = next(stream)
            if isinstance(prepared, PhotoError):
                rejected.append(Rejected(entry.photo_id, split, str(prepared)))
                writer.skip()
            else:
                writer.write(
                    records.Record(prepared[0], entry.photo_id, label_of[entry.instance], entry.instance, prepared[1])
                )
        splits[split] = writer.finish(group)
        index += writer.index
    for _ in stream:  # lets a progress bar reach its end
        pass
    _check_rejected(rejected, entries, splits, options.max_rejected)
    _write_descriptions(directory, splits, index, labels, rejected, options)
    return rejected


def _prepared(entries: list[PhotoEntry], max_pixels: int) -> Iterator[tuple[RecordPhoto, tuple] | PhotoError]:
    """Prepares photos on all cores, in order, with a bounded number in flight."""

    def prepare(entry: PhotoEntry) -> tuple[RecordPhoto, tuple] | PhotoError:
        try:
            photo = prepare_photo(entry.path.read_bytes(), max_pixels)
            return photo, tuple(_relative_box(box, photo) for box in entry.boxes)
        except OSError as error:
            return PhotoError(f"the file cannot be read: {error.strerror or error}")
        except PhotoError as error:
            return error

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:  # Pillow's decoders release Python's lock
        pending = collections.deque()
        for entry in entries:
            pending.append(pool.submit(prepare, entry))
            if len(pending) > 4 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _relative_box(box: tuple[float, float, float, float], photo: RecordPhoto) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = box
    if xmax > photo.width or ymax > photo.height:
        raise PhotoError(f"the box {box} reaches outside the photo of {photo.width}x{photo.height} pixels")
    return xmin / photo.width, ymin / photo.height, xmax / photo.width, ymax / photo.height


class _SplitWriter:
    """Writes one split's shards one after the other, and notes where each record lies."""

    def __init__(self, directory: Path, split: str, photos: int, shards: int):
        self._directory, self._split = directory, split
        # Shard boundaries depend on the photos offered, not on those accepted, so one bad file moves no other.
        self._ends = [photos * (shard + 1) // shards for shard in range(shards)]
        self._names = [f"{split}-{shard:05d}-of-{shards:05d}.tfrecord" for shard in range(shards)]
        self._counts = [0] * shards
        self._seen, self._shard, self._offset = 0, 0, 0
        self._writer = tf.io.TFRecordWriter(str(directory / self._names[0]))
        self.index: list[tuple] = []

    def write(self, record: records.Record) -> None:
        data = records.serialize_record(record)
        self._writer.write(data)
        self._counts[self._shard] += 1
        start = self._offset + records.HEADER_BYTES
        self._offset = start + len(data) + records.FOOTER_BYTES
        name, photo = self._names[self._shard], record.photo
        self.index.append(
            (self._split, name, start, len(data), record.photo_id, record.label, photo.height, photo.width)
        )
        self.skip()

    def skip(self) -> None:
        self._seen += 1
        if self._seen == self._ends[self._shard] and self._shard + 1 < len(self._ends):
            self._writer.close()
            self._shard, self._offset = self._shard + 1, 0
            self._writer = tf.io.TFRecordWriter(str(self._directory / self._names[self._shard]))

    def finish(self, group: list[PhotoEntry]) -> dict:
        self._writer.close()
        shards = [
            record_set.Shard(name, files.sha256(self._directory / name), (self._directory / name).stat().st_size, count)
            for name, count in zip(self._names, self._counts, strict=True)
        ]
        kept = {row[4] for row in self.index}
        instances = len({entry.instance for entry in group if entry.photo_id in kept})
        return {"photos": len(kept), "instances": instances, "shards": [dataclasses.asdict(shard) for shard in shards]}


def _check_rejected(rejected: list[Rejected], entries: list, splits: dict, max_rejected: float) -> None:
    first = f"first {rejected[0].photo_id!r}: {rejected[0].reason}" if rejected else ""
    if len(rejected) > max_rejected * len(entries):
        raise InputError(
            f"{len(rejected)} of {len(entries)} photos had to be rejected ({first}); --max_rejected allows a share of "
            f"{max_rejected}."
        )
    for split, value in splits.items():
        if not value["photos"]:
            raise InputError(
                f"every photo of the split {split!r} had to be rejected ({first}); at least one is wanted."
            )


def _write_descriptions(
    directory: Path,
    splits: dict,
    index: Iterable[tuple],
    labels: list[str],
    rejected: list[Rejected],
    options: WriteOptions,
) -> None:
    hashes = [shard["sha256"] for value in splits.values() for shard in value["shards"]]
    digest = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    head = provenance.header(options.flags, options.seed, {"records": digest})
    description = {
        "name": options.name,
        **head,
        "sha256": digest,
        "splits": splits,
        "rejected": len(rejected),
        "labels": labels,
    }
    files.write_json(directory / record_set.DESCRIPTION, description)
    _write_csv(directory / record_set.PHOTO_INDEX, record_set.INDEX_COLUMNS, index)
    _write_csv(directory / "rejected.csv", ("photo", "split", "reason"), map(dataclasses.astuple, rejected))
    evaluated = {split: splits[split] for split in ("queries", "database") if split in splits}
    if evaluated:
        counts = {split: value["photos"] for split, value in evaluated.items()}
        benchmark = {"name": options.name, "relevance": "instance", **counts, "sha256": digest}
        files.write_json(directory / record_set.BENCHMARK, benchmark)


def _write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
