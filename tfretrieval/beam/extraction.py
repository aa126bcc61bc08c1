"""Extraction by many workers: the same bytes that `tfretrieval.sharded_extraction.extract_shards` writes."""

import dataclasses
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference

from tfretrieval import files
from tfretrieval.beam.options import BeamOptions
from tfretrieval.beam.places import Places
from tfretrieval.beam.record_copies import RecordsOnWorker
from tfretrieval.beam.running import run_all
from tfretrieval.data.record_set import RecordSet, Split
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.sharded_descriptors import LOCK, SHARDS, Part, ShardedDescriptors
from tfretrieval.sharded_extraction import SPEED, PartDescriber, Speed


@dataclasses.dataclass(frozen=True)
class Job:
    """An extraction that workers do.

    Attributes:
        work: the directory, begun.
        load: makes a describer from the folders of a model and of a record set; called in workers, so that it has to
            survive pickling.
        model: the model's folder, as the machine that starts the job sees it.
        records: the record set's directory, likewise.
        split: the split.
        meta: what makes the descriptors, for `meta.json`.
    """

    work: ShardedDescriptors
    load: Callable[[Path, Path], PartDescriber]
    model: Path
    records: Path
    split: Split
    meta: Mapping[str, object]


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """What a worker has loaded: how to describe, the photos to describe, and a lock, for one shard at a time."""

    describer: PartDescriber
    records: RecordsOnWorker
    split: Split
    folder: tempfile.TemporaryDirectory
    turn: threading.Lock


class ShardModelHandler(ModelHandler[int, PredictionResult, LoadedModel]):
    """Describes shards of a split, for `RunInference`: Beam's own handler for TensorFlow wants tensorflow_hub.

    Its examples are numbers of shards, its inferences `Part` values. Within a shard photos run together by their shapes
    (`extraction.Extractor`), so that Beam is to batch nothing.

    Args:
        job: the extraction; its `split` and `meta` stay here.
        places: how workers see files.
    """

    def __init__(self, job: Job, places: Places):
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._work, self._load, self._places = job.work, job.load, places
        self._model, self._records, self._split = job.model, job.records, job.split.name

    def load_model(self) -> LoadedModel:
        """Loads model and records, once in a worker process."""
        folder = tempfile.TemporaryDirectory()
        model = self._places.fetch(self._model, Path(folder.name) / "model")
        records = RecordsOnWorker.open(self._records, self._places, Path(folder.name))
        split = RecordSet.load(records.directory).split(self._split)
        return LoadedModel(self._load(model, records.directory), records, split, folder, threading.Lock())

    def run_inference(
        self, batch: Sequence[int], model: LoadedModel, inference_args: Mapping | None = None
    ) -> Iterable[PredictionResult]:
        """Describes shards.

        Args:
            batch: their numbers.
            model: what `load_model` returned.
            inference_args: not used.
        """
        for shard in batch:
            rows = self._work.rows(shard)
            files_read = {model.split.shards[place] for place in np.unique(model.split.shard[rows.start : rows.stop])}
            with model.turn, model.records.holding(files_read):
                (part,) = model.describer.parts([rows], lambda _: None)
            yield PredictionResult(shard, part)

    def get_metrics_namespace(self) -> str:
        """Returns what Beam's counters of inferences are found under."""
        return "tfretrieval"


class CommitShard(beam.DoFn):
    """Leaves a shard's descriptors in the directory, with their checksum.

    Args:
        work: the directory.
        places: how workers see it.
    """

    def __init__(self, work: ShardedDescriptors, places: Places):
        self._work, self._places = work, places

    def process(self, described: PredictionResult):
        """Writes a shard; yields its number."""
        shard, part = described.example, described.inference
        with tempfile.TemporaryDirectory() as folder:
            scratch = dataclasses.replace(self._work, directory=Path(folder))
            scratch.commit(shard, Part(*part))
            made = sorted((Path(folder) / SHARDS).iterdir(), key=lambda path: path.suffix, reverse=True)
            for path in made:  # the checksum, .json, is what says that the .npy is there
                self._places.put(path, self._work.directory / SHARDS / path.name)
        yield shard


def extract_shards(job: Job, running: BeamOptions, max_rejected: float = 1.0) -> tuple[Descriptors, Speed]:
    """Has workers describe the shards that are missing, and makes all one directory of descriptors.

    Args:
        job: the extraction.
        running: where.
        max_rejected: share of the photos that may be rejected, in [0, 1].

    Returns:
        The descriptors as they stand on disk, and how it went.

    Raises:
        InputError: another process is at work there, the runner does not get done, or too many photos were rejected.
    """
    work, places = job.work, Places(running.mounted())
    with files.locked(work.directory / LOCK, f"{work.directory} is being written by another process; one is wanted."):
        missing = work.missing()
        speed = Speed(photos=sum(len(work.rows(shard)) for shard in missing))
        start = time.perf_counter()
        run_all(work.missing, DescribeShards(job, places), running, "shard")
        speed.seconds = time.perf_counter() - start
        _check_rejected(job, max_rejected)
        if missing:
            files.write_json(work.directory / SPEED, speed.as_json())
        work.finish(job.split.ids, job.split.name, job.meta)
    (work.directory / LOCK).unlink(missing_ok=True)
    return Descriptors.load(work.directory), speed


class DescribeShards(beam.PTransform):
    """Describes shards by number, and leaves them in the directory.

    Args:
        job: the extraction.
        places: how workers see files.
    """

    def __init__(self, job: Job, places: Places):
        super().__init__()
        self._job, self._places = job, places

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        """Returns the numbers of the shards that are done."""
        described = shards | "describe" >> RunInference(ShardModelHandler(self._job, self._places))
        return described | "commit" >> beam.ParDo(CommitShard(self._job.work, self._places))


def _check_rejected(job: Job, max_rejected: float) -> None:
    if job.work.finished:
        return
    rejected = job.work.rejected(range(job.work.shards))
    if len(rejected) > max_rejected * job.work.photos:
        row = min(rejected)
        raise InputError(
            f"{len(rejected)} of {job.work.photos} photos had to be rejected (first {job.split.ids[row]!r}: "
            f"{rejected[row]}); --max_rejected allows a share of {max_rejected}; shards that are done stay."
        )
