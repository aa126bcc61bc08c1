"""Writing of record sets: photos in, shards out, atomically and with equal bytes for equal input."""

import collections
import csv
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow as tf

from tfretrieval import files, provenance
from tfretrieval.data import record_set, records
from tfretrieval.data.judgement_index import JUDGEMENT_INDEX, write_judgements
from tfretrieval.data.judgements import JudgedPhotos, QueryJudgement
from tfretrieval.data.object_index import OBJECT_INDEX, SplitObjects, write_objects
from tfretrieval.data.objects import NO_OBJECT, ObjectFault
from tfretrieval.data.prepared import Prepared, prepare_entry
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
        classes: names of the objects' classes in the order of their labels, of a source with objects.
        left_out: photos of each split that the source left out, to note in `dataset.json`.
        orphans: objects of no photo, each with its file, to list in `rejected_objects.csv`.
        judged: of a source with judgements, the photos that are written and their ground truth.
        protocol: of a source of plain labels, the protocol that its benchmark is measured by; empty for the usual one.
    """

    name: str
    shards: int = 0
    max_pixels: int = DEFAULT_MAX_PIXELS
    max_rejected: float = 0.1
    flags: Mapping[str, object] = dataclasses.field(default_factory=dict)
    seed: int | None = None
    classes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    orphans: tuple[tuple[Path, ObjectFault], ...] = ()
    judged: JudgedPhotos | None = None
    protocol: str = ""


@dataclasses.dataclass(frozen=True)
class Rejected:
    """A photo that was left out, and why."""

    photo_id: str
    split: str
    reason: str


@dataclasses.dataclass(frozen=True)
class RejectedObject:
    """An object that was left out, and why; of no photo and no split where its file names no photo that is there.

    Attributes:
        file: the annotation file.
        photo_id: the photo.
        split: the split.
        number: the object's place in the photo's annotation, from 0.
        reason: why.
    """

    file: str
    photo_id: str
    split: str
    number: int
    reason: str


def write_record_set(
    entries: Sequence[PhotoEntry], output: str | Path, options: WriteOptions, progress=iter
) -> tuple[record_set.RecordSet, list[Rejected]]:
    """Reads photos and writes a record set; with queries or database among them, a benchmark directory too.

    Judgements count the rows of the database, so that no query and no database photo of a judged set may be rejected.

    Args:
        entries: the photos of a source.
        output: the directory; appears when everything is written, and replaces an earlier record set there.
        options: how to write.
        progress: called with the iterator over the entries, returns one that shows progress (a tqdm, say).

    Returns:
        The record set as it stands on disk, and the photos that were rejected (also in its `rejected.csv`).

    Raises:
        InputError: more photos than `max_rejected` had to be rejected, a split lost all of its photos, a judged query
            or database photo is at fault, an option is out of range, or the output holds something else.
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


@dataclasses.dataclass
class _LeftOut:
    """What a run leaves out, gathered while it writes."""

    photos: list[Rejected] = dataclasses.field(default_factory=list)
    objects: list[RejectedObject] = dataclasses.field(default_factory=list)
    clipped: int = 0

    def add(self, entry: PhotoEntry, prepared: Prepared) -> None:
        if prepared.fault:
            self.photos.append(Rejected(entry.photo_id, entry.split, prepared.fault))
        file = str(entry.objects.annotation.file) if entry.objects else ""
        self.objects += [
            RejectedObject(file, entry.photo_id, entry.split, fault.number, fault.reason) for fault in prepared.faults
        ]
        self.clipped += prepared.clipped


def _write_splits(entries: Sequence[PhotoEntry], directory: Path, options: WriteOptions, progress) -> list[Rejected]:
    labels = list(options.classes) or sorted({entry.instance for entry in entries})
    label_of = {instance: label for label, instance in enumerate([*labels, NO_OBJECT])}
    by_split = {split: [entry for entry in entries if entry.split == split] for split in SPLITS}
    by_split = {split: group for split, group in by_split.items() if group}
    ordered = [entry for group in by_split.values() for entry in group]
    stream = progress(_prepared(_with_judgements(ordered, options.judged), options.max_pixels, label_of))
    orphans = [RejectedObject(str(file), "", "", fault.number, fault.reason) for file, fault in options.orphans]
    left_out = _LeftOut([], orphans)
    splits, index, objects, queries = {}, [], {}, []
    for split, group in by_split.items():
        count = options.shards or -(-len(group) // PHOTOS_PER_SHARD)
        writer = _SplitWriter(directory, split, len(group), min(count, len(group)))
        for entry in group:
            prepared = next(stream)
            left_out.add(entry, prepared)
            if options.judged and prepared.fault:
                _check_needed(entry, prepared.fault)
            for record, numbers in zip(prepared.records, prepared.numbers, strict=True):
                writer.write(record, numbers)
            writer.next_entry()
        splits[split] = writer.finish()
        index += writer.index
        queries += writer.queries
        objects[split] = SplitObjects.of_photos(writer.objects)
    for _ in stream:  # lets a progress bar reach its end
        pass
    _check_rejected(left_out, entries, splits, options)
    if any(row[5] == len(labels) for row in index):
        labels.append(NO_OBJECT)
    of_kind = {}
    if options.classes:
        of_kind = _describe_objects(directory, entries, splits, objects, left_out, options)
    if options.judged:
        of_kind = _describe_judgements(directory, queries, options.judged)
    _write_descriptions(directory, splits, index, labels, left_out.photos, options, of_kind)
    return left_out.photos


def _check_needed(entry: PhotoEntry, fault: str) -> None:
    """Refuses to leave out a photo of a judged set that later ones' rows depend on."""
    if entry.split in ("queries", "database"):
        raise InputError(
            f"the photo {entry.path} of the split {entry.split!r} cannot be used: {fault}; the ground truth counts the "
            "rows of all photos, so that every one is wanted."
        )


def _with_judgements(
    entries: list[PhotoEntry], judged: JudgedPhotos | None
) -> Iterator[tuple[PhotoEntry, QueryJudgement | None]]:
    """Puts the judgements beside the queries, whose order they have."""
    judgements = iter(judged.judgements if judged else ())
    for entry in entries:
        yield entry, next(judgements) if judged and entry.split == "queries" else None


def _prepared(
    entries: Iterable[tuple[PhotoEntry, QueryJudgement | None]], max_pixels: int, label_of: Mapping[str, int]
) -> Iterator[Prepared]:
    """Prepares photos on all cores, in order, with a bounded number in flight."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:  # Pillow's decoders release Python's lock
        pending = collections.deque()
        for entry, judgement in entries:
            pending.append(pool.submit(prepare_entry, entry, max_pixels, label_of, judgement))
            if len(pending) > 4 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


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
        self.objects: list[list[tuple]] = []
        self.queries: list[records.Record] = []  # the judged ones, without their photos' bytes

    def write(self, record: records.Record, numbers: tuple[int, ...]) -> None:
        data = records.serialize_record(record)
        self._writer.write(data)
        self._counts[self._shard] += 1
        start = self._offset + records.HEADER_BYTES
        self._offset = start + len(data) + records.FOOTER_BYTES
        name, photo = self._names[self._shard], record.photo
        self.index.append(
            (self._split, name, start, len(data), record.photo_id, record.label, photo.height, photo.width)
        )
        numbered = zip(record.objects, numbers, strict=True)
        self.objects.append([(*item.box, item.label, number, item.flags) for item, number in numbered])
        if record.judgement:
            self.queries.append(dataclasses.replace(record, photo=dataclasses.replace(photo, encoded=b"")))

    def next_entry(self) -> None:
        self._seen += 1
        if self._seen == self._ends[self._shard] and self._shard + 1 < len(self._ends):
            self._writer.close()
            self._shard, self._offset = self._shard + 1, 0
            self._writer = tf.io.TFRecordWriter(str(self._directory / self._names[self._shard]))

    def finish(self) -> dict:
        self._writer.close()
        shards = [
            record_set.Shard(name, files.sha256(self._directory / name), (self._directory / name).stat().st_size, count)
            for name, count in zip(self._names, self._counts, strict=True)
        ]
        instances = len({row[5] for row in self.index})
        return {
            "photos": len(self.index),
            "instances": instances,
            "shards": [dataclasses.asdict(shard) for shard in shards],
        }


def _check_rejected(left_out: _LeftOut, entries: Sequence[PhotoEntry], splits: dict, options: WriteOptions) -> None:
    rejected = left_out.photos
    first = f"first {rejected[0].photo_id!r}: {rejected[0].reason}" if rejected else ""
    if len(rejected) > options.max_rejected * len(entries):
        raise InputError(
            f"{len(rejected)} of {len(entries)} photos had to be rejected ({first}); --max_rejected allows a share of "
            f"{options.max_rejected}."
        )
    for split, value in splits.items():
        if not value["photos"]:
            raise InputError(
                f"every photo of the split {split!r} had to be rejected ({first}); at least one is wanted."
            )
    annotations = [entry.objects.annotation for entry in entries if entry.objects]
    objects = sum(len(value.objects) + len(value.faults) for value in annotations) + len(options.orphans)
    if len(left_out.objects) > options.max_rejected * objects:
        one = left_out.objects[0]
        raise InputError(
            f"{len(left_out.objects)} of {objects} objects had to be rejected (first object {one.number} of "
            f"{one.photo_id or one.file!r}: {one.reason}); --max_rejected allows a share of {options.max_rejected}."
        )


def _describe_objects(
    directory: Path,
    entries: Sequence[PhotoEntry],
    splits: dict,
    objects: dict[str, SplitObjects],
    left_out: _LeftOut,
    options: WriteOptions,
) -> dict:
    """Writes the objects' index and the list of rejected ones; returns what `dataset.json` says of them."""
    for split, value in splits.items():
        value |= {"objects": len(objects[split].classes), "left_out": options.left_out.get(split, 0)}
    path = directory / OBJECT_INDEX
    write_objects(path, objects)
    rows = map(dataclasses.astuple, left_out.objects)
    _write_csv(directory / "rejected_objects.csv", ("file", "photo", "split", "object", "reason"), rows)
    return {
        "classes": list(options.classes),
        "cropped": sorted({entry.split for entry in entries if entry.objects and entry.objects.cropped}),
        "objects": {"index": _listed(path), "rejected": len(left_out.objects), "clipped": left_out.clipped},
    }


def _describe_judgements(directory: Path, queries: list[records.Record], judged: JudgedPhotos) -> dict:
    """Writes the judgements' index; returns what `dataset.json` says of them."""
    path = directory / JUDGEMENT_INDEX
    write_judgements(path, [record.judgement for record in queries])
    told = {"protocol": judged.protocol, "ground_truth_sha256": judged.sha256, "distractors": judged.distractors}
    return {record_set.JUDGED: {"index": _listed(path), **told, "notes": [*judged.notes, *_notes_of_boxes(queries)]}}


def _notes_of_boxes(queries: list[records.Record]) -> list[str]:
    """Returns a sentence where boxes reach beyond their photos, by half a pixel or more."""

    def beyond(record: records.Record) -> bool:
        x1, y1, x2, y2 = record.judgement.box or (0, 0, 0, 0)
        return min(x1, y1) <= -0.5 or x2 >= record.photo.width + 0.5 or y2 >= record.photo.height + 0.5

    found = [record.photo_id for record in queries if beyond(record)]
    return [f"{len(found)} queries have boxes that reach beyond their photos, first {found[0]!r}."] if found else []


def _listed(path: Path) -> dict:
    """Returns how `dataset.json` lists an index."""
    return {"file": path.name, "sha256": files.sha256(path), "bytes": path.stat().st_size}


def _write_descriptions(
    directory: Path,
    splits: dict,
    index: Iterable[tuple],
    labels: list[str],
    rejected: list[Rejected],
    options: WriteOptions,
    of_kind: dict,
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
        **of_kind,
    }
    files.write_json(directory / record_set.DESCRIPTION, description)
    _write_csv(directory / record_set.PHOTO_INDEX, record_set.INDEX_COLUMNS, index)
    _write_csv(directory / "rejected.csv", ("photo", "split", "reason"), map(dataclasses.astuple, rejected))
    counts = {split: splits[split]["photos"] for split in ("queries", "database") if split in splits}
    if counts:
        benchmark = {"name": options.name, **_relevance(options, of_kind), **counts, "sha256": digest}
        files.write_json(directory / record_set.BENCHMARK, benchmark)


def _relevance(options: WriteOptions, of_kind: dict) -> dict:
    """Returns what `benchmark.json` says of the kind of relevance and of the protocol."""
    if options.judged:
        told = {key: value for key, value in of_kind[record_set.JUDGED].items() if key != "index"}
        return {"relevance": record_set.JUDGED, **told}
    if options.classes:
        return {"relevance": record_set.BY_CONTENT, "cropped_queries": "queries" in of_kind["cropped"]}
    protocol = {"protocol": options.protocol} if options.protocol else {}
    return {"relevance": record_set.BY_INSTANCE, **protocol}


def _write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
