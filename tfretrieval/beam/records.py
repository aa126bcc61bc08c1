"""Writing of record sets by many workers: the same bytes that `write_record_set` writes."""

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam

from tfretrieval import files
from tfretrieval.beam.options import BeamOptions
from tfretrieval.beam.places import PlacedFile, Places
from tfretrieval.beam.running import run_all
from tfretrieval.beam.work import Work, locked
from tfretrieval.data import record_set, record_shards
from tfretrieval.data.record_shard_files import plan_from_json, plan_to_json, written_from_json, written_to_json
from tfretrieval.data.sources import PhotoEntry
from tfretrieval.data.write_records import WriteOptions, check_options, describe_shards
from tfretrieval.errors import InputError


class WriteShard(beam.DoFn):
    """Writes the shard of a name.

    Args:
        work: the job.
        max_pixels: see `WriteOptions`.
    """

    def __init__(self, work: Work, max_pixels: int):
        self._work, self._max_pixels = work, max_pixels

    def process(self, file: str):
        """Writes a shard; yields its name."""
        plan = plan_from_json(self._work.unit(file))
        entries = tuple(_placed(entry, self._work.places) for entry in plan.entries)
        plan = dataclasses.replace(plan, entries=entries)
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder) / file
            prepared = record_shards.prepare([plan], self._max_pixels)
            written = record_shards.write_shard(plan, prepared, scratch)
            self._work.commit(file, scratch, written_to_json(written))
        yield file


def write_record_set(
    entries: Sequence[PhotoEntry], output: str | Path, options: WriteOptions, running: BeamOptions
) -> tuple[record_set.RecordSet, list[record_shards.Rejected]]:
    """Does what `tfretrieval.data.write_records.write_record_set` does, its shards written by workers.

    Shards that are done stay when the job is cut off, and the same call goes on with the others.

    Args:
        entries: the photos of a source; workers read them.
        output: the directory, which workers write beside.
        options: how to write.
        running: where.

    Returns:
        The record set as it stands on disk, and the photos that were rejected.

    Raises:
        InputError: see there; or the runner does not get done.
    """
    check_options(options)
    labels = record_shards.instance_labels(entries, options.classes)
    plans = record_shards.plan_shards(entries, labels, options.shards, options.judged)
    units = {plan.file: plan_to_json(plan) for plan in plans}
    with files.atomic_directory(output, marker=record_set.DESCRIPTION) as partial, locked(output) as place:
        work = Work.open(place, {"max_pixels": options.max_pixels}, units, Places(running.mounted()))
        run_all(work.missing, beam.ParDo(WriteShard(work, options.max_pixels)), running, "shard")
        written = [written_from_json(work.told(plan.file)) for plan in plans]
        rejected = describe_shards(partial, entries, labels, written, options)
        for shard in (item.shard for item in written):
            _move(work.data(shard.file), partial / shard.file, shard.bytes)
        work.remove()
    return record_set.RecordSet.load(output), rejected


def _placed(entry: PhotoEntry, places: Places) -> PhotoEntry:
    """Has a photo read from where workers find it."""
    return entry if places.url(entry.path) is None else dataclasses.replace(entry, path=PlacedFile(entry.path, places))


def _move(source: Path, target: Path, size: int) -> None:
    if source.stat().st_size != size:
        raise InputError(f"{source} has {source.stat().st_size} bytes, and {size} were written; start again.")
    shutil.move(source, target)
