"""Writing of record sets: photos in, shards out, atomically and with equal bytes for equal input."""

import csv
import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tfretrieval import files, provenance
from tfretrieval.data import record_set
from tfretrieval.data.judgement_index import JUDGEMENT_INDEX, write_judgements
from tfretrieval.data.judgements import JudgedPhotos
from tfretrieval.data.object_index import OBJECT_INDEX, SplitObjects, write_objects
from tfretrieval.data.objects import NO_OBJECT, ObjectFault
from tfretrieval.data.record_shards import (
    PHOTOS_PER_SHARD,
    JudgedQuery,
    Rejected,
    RejectedObject,
    WrittenShard,
    instance_labels,
    plan_shards,
    prepare,
    write_shard,
)
from tfretrieval.data.sources import PhotoEntry
from tfretrieval.errors import InputError

DEFAULT_MAX_PIXELS = 100_000_000


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
    check_options(options)
    labels = instance_labels(entries, options.classes)
    plans = plan_shards(entries, labels, options.shards, options.judged)
    with files.atomic_directory(output, marker=record_set.DESCRIPTION) as partial:
        prepared = progress(prepare(plans, options.max_pixels))
        written = [write_shard(plan, prepared, partial / plan.file) for plan in plans]
        for _ in prepared:  # lets a progress bar reach its end
            pass
        rejected = describe_shards(partial, entries, labels, written, options)
    return record_set.RecordSet.load(output), rejected


def check_options(options: WriteOptions) -> None:
    """Checks options.

    Raises:
        InputError: one is out of range.
    """
    if options.shards < 0:
        raise InputError(
            f"--shards is {options.shards}; 1 or more, or 0 for one per {PHOTOS_PER_SHARD} photos, is wanted."
        )
    if not 0 <= options.max_rejected <= 1:
        raise InputError(f"--max_rejected is {options.max_rejected}; a share from 0 to 1 is wanted.")
    if options.max_pixels < 1:
        raise InputError(f"--max_pixels is {options.max_pixels}; 1 or more is wanted.")


def describe_shards(
    directory: Path,
    entries: Sequence[PhotoEntry],
    labels: Sequence[str],
    written: Sequence[WrittenShard],
    options: WriteOptions,
) -> list[Rejected]:
    """Writes the files beside the shards that make a directory a record set.

    Args:
        directory: the directory that holds the shards, or will hold them.
        entries: the photos of the source.
        labels: see `instance_labels`.
        written: all shards, in the order of their plans.
        options: how the set is written.

    Returns:
        The photos that were rejected.

    Raises:
        InputError: too many photos or objects were rejected, or all photos of a split.
    """
    left_out = _LeftOut.of(written, options)
    splits, objects = {}, {}
    for split in dict.fromkeys(shard.split for shard in written):
        own = [shard for shard in written if shard.split == split]
        splits[split] = {
            "photos": sum(shard.shard.photos for shard in own),
            "instances": len({row[5] for shard in own for row in shard.index}),
            "shards": [dataclasses.asdict(shard.shard) for shard in own],
        }
        objects[split] = [photo for shard in own for photo in shard.objects]
    _check_rejected(left_out, entries, splits, options)
    labels = list(labels)
    if any(row[5] == len(labels) for shard in written for row in shard.index):
        labels.append(NO_OBJECT)
    of_kind = {}
    if options.classes:
        of_kind = _describe_objects(directory, entries, splits, objects, left_out, options)
    if options.judged:
        of_kind = _describe_judgements(
            directory, [query for shard in written for query in shard.queries], options.judged
        )
    index = itertools.chain.from_iterable(shard.index for shard in written)
    _write_descriptions(directory, splits, index, labels, left_out.photos, options, of_kind)
    return left_out.photos


@dataclasses.dataclass(frozen=True)
class _LeftOut:
    """What is left out of all shards together."""

    photos: list[Rejected]
    objects: list[RejectedObject]
    clipped: int

    @classmethod
    def of(cls, written: Sequence[WrittenShard], options: WriteOptions) -> "_LeftOut":
        orphans = [RejectedObject(str(file), "", "", fault.number, fault.reason) for file, fault in options.orphans]
        return cls(
            [photo for shard in written for photo in shard.rejected],
            [*orphans, *(item for shard in written for item in shard.rejected_objects)],
            sum(shard.clipped for shard in written),
        )


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
    objects: dict[str, list],
    left_out: _LeftOut,
    options: WriteOptions,
) -> dict:
    """Writes the objects' index and the list of rejected ones; returns what `dataset.json` says of them."""
    gathered = {split: SplitObjects.of_photos(photos) for split, photos in objects.items()}
    for split, value in splits.items():
        value |= {"objects": len(gathered[split].classes), "left_out": options.left_out.get(split, 0)}
    path = directory / OBJECT_INDEX
    write_objects(path, gathered)
    rows = map(dataclasses.astuple, left_out.objects)
    _write_csv(directory / "rejected_objects.csv", ("file", "photo", "split", "object", "reason"), rows)
    return {
        "classes": list(options.classes),
        "cropped": sorted({entry.split for entry in entries if entry.objects and entry.objects.cropped}),
        "objects": {"index": _listed(path), "rejected": len(left_out.objects), "clipped": left_out.clipped},
    }


def _describe_judgements(directory: Path, queries: list[JudgedQuery], judged: JudgedPhotos) -> dict:
    """Writes the judgements' index; returns what `dataset.json` says of them."""
    path = directory / JUDGEMENT_INDEX
    write_judgements(path, [query.judgement for query in queries])
    told = {"protocol": judged.protocol, "ground_truth_sha256": judged.sha256, "distractors": judged.distractors}
    return {record_set.JUDGED: {"index": _listed(path), **told, "notes": [*judged.notes, *_notes_of_boxes(queries)]}}


def _notes_of_boxes(queries: list[JudgedQuery]) -> list[str]:
    """Returns a sentence where boxes reach beyond their photos, by half a pixel or more."""

    def beyond(query: JudgedQuery) -> bool:
        x1, y1, x2, y2 = query.judgement.box or (0, 0, 0, 0)
        return min(x1, y1) <= -0.5 or x2 >= query.width + 0.5 or y2 >= query.height + 0.5

    found = [query.photo_id for query in queries if beyond(query)]
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
