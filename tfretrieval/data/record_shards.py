"""Shards of a record set, each planned from the photos offered alone, so that any process can write any of them."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow as tf

from tfretrieval import files
from tfretrieval.data import records
from tfretrieval.data.judgements import JudgedPhotos, QueryJudgement
from tfretrieval.data.objects import NO_OBJECT
from tfretrieval.data.prepared import Prepared, prepare_entry
from tfretrieval.data.record_set import Shard
from tfretrieval.data.sources import SPLITS, PhotoEntry
from tfretrieval.errors import InputError

PHOTOS_PER_SHARD = 1024


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


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """The photos that one shard is offered.

    Attributes:
        split: the split.
        file: the shard's name.
        entries: the photos.
        judgements: for each photo the judgement of its query; None where there is none.
        labels: labels of the photos' instances and of their objects' classes, by name.
        judged: whether no photo of the queries and the database may be left out.
    """

    split: str
    file: str
    entries: tuple[PhotoEntry, ...]
    judgements: tuple[QueryJudgement | None, ...]
    labels: Mapping[str, int]
    judged: bool = False


@dataclasses.dataclass(frozen=True)
class JudgedQuery:
    """The judgement of a query that was written, its box in the upright photo of so many pixels."""

    photo_id: str
    height: int
    width: int
    judgement: QueryJudgement


@dataclasses.dataclass
class WrittenShard:
    """A shard on disk, and what the record set's own files say of its photos.

    Attributes:
        split: the split.
        shard: the shard.
        index: a line of `photos.csv` for each record.
        objects: for each record (xmin, ymin, xmax, ymax, class, number, names of flags) of its objects.
        queries: the judged ones.
        rejected: photos left out.
        rejected_objects: objects left out.
        clipped: boxes cut off at their photo's border.
    """

    split: str
    shard: Shard | None = None
    index: list[tuple] = dataclasses.field(default_factory=list)
    objects: list[list[tuple]] = dataclasses.field(default_factory=list)
    queries: list[JudgedQuery] = dataclasses.field(default_factory=list)
    rejected: list[Rejected] = dataclasses.field(default_factory=list)
    rejected_objects: list[RejectedObject] = dataclasses.field(default_factory=list)
    clipped: int = 0


def instance_labels(entries: Sequence[PhotoEntry], classes: Sequence[str]) -> list[str]:
    """Returns the names that labels stand for, in their order: a source's classes, or the photos' instances."""
    return list(classes) or sorted({entry.instance for entry in entries})


def plan_shards(
    entries: Sequence[PhotoEntry], labels: Sequence[str], shards: int, judged: JudgedPhotos | None = None
) -> list[ShardPlan]:
    """Divides photos among shards, split after split.

    Which photos a shard is offered depends on those of its split alone, not on which are accepted, so that one bad file
    moves no other.

    Args:
        entries: the photos of a source.
        labels: see `instance_labels`.
        shards: shards of each split, 0 for one per 1,024 photos; no more than photos are made.
        judged: of a source with judgements, those of the queries, whose order they have.
    """
    label_of = {name: label for label, name in enumerate([*labels, NO_OBJECT])}
    judgements = iter(judged.judgements if judged else ())
    plans = []
    for split in SPLITS:
        group = [entry for entry in entries if entry.split == split]
        own = [next(judgements) if judged and split == "queries" else None for _ in group]
        count = min(shards or -(-len(group) // PHOTOS_PER_SHARD), len(group))
        for shard in range(count):
            here = slice(len(group) * shard // count, len(group) * (shard + 1) // count)
            file = f"{split}-{shard:05d}-of-{count:05d}.tfrecord"
            offered, wanted = tuple(group[here]), tuple(own[here])
            plans.append(ShardPlan(split, file, offered, wanted, _labels_of(offered, label_of), judged is not None))
    return plans


def _labels_of(entries: Iterable[PhotoEntry], label_of: Mapping[str, int]) -> dict[str, int]:
    """Returns the labels that photos need: another process is to be sent no more."""
    names = {NO_OBJECT}
    for entry in entries:
        names |= {item.name for item in entry.objects.annotation.objects} if entry.objects else {entry.instance}
    return {name: label_of[name] for name in sorted(names) if name in label_of}


def prepare(plans: Sequence[ShardPlan], max_pixels: int) -> Iterator[Prepared]:
    """Prepares the photos of shards on all cores, in order, with a bounded number in flight."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:  # Pillow's decoders release Python's lock
        pending = collections.deque()
        for plan in plans:
            for entry, judgement in zip(plan.entries, plan.judgements, strict=True):
                pending.append(pool.submit(prepare_entry, entry, max_pixels, plan.labels, judgement))
                if len(pending) > 4 * workers:
                    yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def write_shard(plan: ShardPlan, prepared: Iterator[Prepared], path: Path) -> WrittenShard:
    """Writes the records of one shard.

    Args:
        plan: the shard.
        prepared: what its photos become, in their order (`prepare`); so many are taken from it.
        path: the file to write, of any name.

    Raises:
        InputError: a query or database photo of a judged set is at fault.
    """
    written, offset = WrittenShard(plan.split), 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for entry in plan.entries:
            found = next(prepared)
            _note_left_out(written, plan, entry, found)
            for record, numbers in zip(found.records, found.numbers, strict=True):
                data = records.serialize_record(record)
                writer.write(data)
                start = offset + records.HEADER_BYTES
                offset = start + len(data) + records.FOOTER_BYTES
                _note_record(written, plan, record, numbers, start, len(data))
    written.shard = Shard(plan.file, files.sha256(path), path.stat().st_size, len(written.index))
    return written


def _note_left_out(written: WrittenShard, plan: ShardPlan, entry: PhotoEntry, found: Prepared) -> None:
    if found.fault and plan.judged and entry.split in ("queries", "database"):
        raise InputError(
            f"the photo {entry.path} of the split {entry.split!r} cannot be used: {found.fault}; the ground truth "
            "counts the rows of all photos, so that every one is wanted."
        )
    if found.fault:
        written.rejected.append(Rejected(entry.photo_id, entry.split, found.fault))
    file = str(entry.objects.annotation.file) if entry.objects else ""
    written.rejected_objects += [
        RejectedObject(file, entry.photo_id, entry.split, fault.number, fault.reason) for fault in found.faults
    ]
    written.clipped += found.clipped


def _note_record(
    written: WrittenShard, plan: ShardPlan, record: records.Record, numbers: Sequence[int], start: int, length: int
) -> None:
    photo = record.photo
    written.index.append(
        (plan.split, plan.file, start, length, record.photo_id, record.label, photo.height, photo.width)
    )
    numbered = zip(record.objects, numbers, strict=True)
    written.objects.append([(*item.box, item.label, number, sorted(item.flags)) for item, number in numbered])
    if record.judgement:
        written.queries.append(JudgedQuery(record.photo_id, photo.height, photo.width, record.judgement))
