"""Extracts the descriptors of records through a server, a SavedModel, or a training run's network.

Example: python -m pipelines.extract --server=localhost:8500 --records=runs/records --split=queries --output=runs/q

Of many photos, shard by shard; cut off at any moment and started again, it goes on where it was:
python -m pipelines.extract --model=runs/gem --records=runs/records --split=database --output=runs/db --shards=100
On many machines, with Apache Beam (docs/beam.md), the same and --runner=FlinkRunner, say.

Into a copy of the records, for a student to learn from: python -m pipelines.extract --model=runs/gem
--records=runs/records --split=train --to_records=runs/taught

Of the objects in the photos, which a server may find too: python -m pipelines.extract --objects --model=runs/objects
--records=runs/cards --split=database --output=runs/db
"""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from absl import flags

from export import describing
from export.client import DescriptorClient, Tls
from export.describing import Describer
from export.running import RunningOptions, prepare
from export.served_objects import extract_served_objects
from export.shard_loading import LoadedParts
from pipelines import script
from tfretrieval import console, provenance
from tfretrieval.beam.options import BeamOptions
from tfretrieval.data.query_crops import QUERY_CROPS, SCALED
from tfretrieval.data.record_set import RecordSet, Split
from tfretrieval.data.teacher_records import TeacherCard, write_with_descriptors
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.object_extraction import ExtractionOptions, extract_objects
from tfretrieval.sharded_extraction import Speed
from tfretrieval.training.run_directory import RunDirectory

FLAGS = flags.FLAGS
SERVER_FLAGS = ("in_flight", "channels", "tls", "tls_ca", "tls_certificate", "tls_key", "tls_server_name")

flags.DEFINE_string("server", None, "HOST:PORT of a TensorFlow Serving gRPC port (or of export.serve).")
flags.DEFINE_string("model", None, "Folder of a SavedModel, or a run directory, to use in this process instead.")
flags.DEFINE_string("model_name", "descriptor", "Name of the model on the server.")
flags.DEFINE_enum("which", "best", ["best", "last", "untrained"], "Of a run directory: the network.")
flags.DEFINE_string("records", None, "Directory that pipelines.make_records wrote.", required=True)
flags.DEFINE_string(
    "split", None, "Split to describe; may be left out where there is only one, and with --to_records for all."
)
flags.DEFINE_string("output", None, "Directory to write: vectors.npy, ids.txt, meta.json.")
flags.DEFINE_integer(
    "shards",
    0,
    "Write --output in so many shards, each with its checksum, and go on with those that are missing when started "
    "again; memory does not grow with the photos. 0 for all at once.",
    lower_bound=0,
)
flags.DEFINE_float(
    "max_rejected",
    0.01,
    "With --shards and a run's network: most photos that may be unreadable, as a share; rejected.csv lists them.",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_string(
    "to_records", None, "Record set to write in the place of --output: a copy whose records carry the descriptors."
)
flags.DEFINE_integer("batch", 32, "Most photos in one request.", lower_bound=1)
flags.DEFINE_float("timeout", 60.0, "Seconds that one request may take, with its retries.", lower_bound=0.001)
flags.DEFINE_integer("in_flight", 2, "With --server: requests under way at a time.", lower_bound=1)
flags.DEFINE_integer("channels", 1, "With --server: connections that requests are spread over.", lower_bound=1)
flags.DEFINE_boolean("tls", False, "With --server: connect over TLS, as any of the --tls_... flags does too.")
flags.DEFINE_string("tls_ca", None, "PEM file of the authorities that the server's certificate may be by.")
flags.DEFINE_string("tls_certificate", None, "PEM file of a certificate to show the server, with --tls_key.")
flags.DEFINE_string("tls_key", None, "PEM file of that certificate's private key.")
flags.DEFINE_string("tls_server_name", None, "Name in the server's certificate, where it is not the host of --server.")
flags.DEFINE_enum(
    "query_crop",
    SCALED,
    QUERY_CROPS,
    "Queries whose benchmark gives them a box: scaled describes the crop at the size its content has in the whole "
    "photo, as the revisited benchmarks do; unscaled at the image size, as a photo of its own; none the whole photo.",
)
flags.DEFINE_boolean("objects", False, "Describe the objects of the photos too, by the run in --model or --server.")
script.define_flags(ExtractionOptions)
script.define_flags(RunningOptions)
script.define_flags(BeamOptions)


def bar(split: str) -> Callable:
    """Returns what makes a progress bar from a number of photos."""
    return lambda total: console.progress(None, f"describing {split}", total=total)


def client() -> DescriptorClient:
    """Returns a client of --server."""
    files = (FLAGS.tls_ca, FLAGS.tls_certificate, FLAGS.tls_key, FLAGS.tls_server_name)
    return DescriptorClient(
        FLAGS.server,
        FLAGS.model_name,
        timeout=FLAGS.timeout,
        max_batch_photos=FLAGS.batch,
        in_flight=FLAGS.in_flight,
        channels=FLAGS.channels,
        tls=Tls(*files) if FLAGS.tls or any(files) else None,
    )


def write_descriptors(describer: Describer, records: RecordSet) -> None:
    """Describes a split into --output, and prints what was written."""
    split = records.split(FLAGS.split)
    header = provenance.header(script.flag_values(main, BeamOptions.names()), None, {"records": records.sha256})
    if FLAGS.shards:
        write_shards(describer, split, header)
        return
    found = describer.extract(split, bar(split.name), header)
    found.save(FLAGS.output)
    script.save_flags(main, FLAGS.output)
    console.say(
        f"wrote {FLAGS.output}: {len(found)} descriptors of {found.vectors.shape[1]} dimensions, "
        f"{found.meta['milliseconds_per_photo']:.1f} ms a photo"
    )


def write_shards(describer: Describer, split: Split, header: dict) -> None:
    """Describes a split into --output shard by shard, or goes on with it, and prints what was written."""
    running = script.from_flags(BeamOptions)
    if running.runner:
        found, speed = _write_by_runner(describer, split, header, running)
    else:
        told = bar(split.name)
        found, speed = describer.extract_shards(split, FLAGS.output, FLAGS.shards, told, header, FLAGS.max_rejected)
    script.save_flags(main, FLAGS.output)
    rejected = len(split) - len(found)
    done = f"{speed.photos} now, {speed.photos_per_second:.1f} photos/s" if speed.photos else "all were there already"
    console.say(
        f"wrote {FLAGS.output}: {len(found)} descriptors of {found.vectors.shape[1]} dimensions ({done}"
        + (f"; {speed}" if speed.shares() else "")
        + ")"
        + (f", {rejected} photos rejected, see {FLAGS.output}/rejected.csv" if rejected else "")
    )


def _write_by_runner(
    describer: Describer, split: Split, header: dict, running: BeamOptions
) -> tuple[Descriptors, Speed]:
    """Has a runner describe a split into --output; see `Describer.extract_shards`."""
    from tfretrieval.beam import extraction

    work, meta = describer.begin_shards(split, FLAGS.output, FLAGS.shards, header)
    load = LoadedParts(split.name, FLAGS.batch, FLAGS.which, FLAGS.query_crop, script.from_flags(RunningOptions))
    job = extraction.Job(work, load, Path(FLAGS.model), Path(FLAGS.records), split, meta)
    return extraction.extract_shards(job, running, FLAGS.max_rejected)


def write_records(describer: Describer, records: RecordSet) -> None:
    """Describes one split or all into --to_records, and prints what was written."""
    splits = [records.split(FLAGS.split)] if FLAGS.split else list(records.splits.values())
    vectors = {split.name: describer.describe(split, bar(split.name)) for split in splits}
    card, dimension = describer.card, next(iter(vectors.values())).shape[1]
    told = TeacherCard(dimension, describer.name, card.get("model_sha256"), card.get("image_size"), list(vectors))
    write_with_descriptors(records, vectors, told, FLAGS.to_records)
    script.save_flags(main, FLAGS.to_records)
    console.say(
        f"wrote {FLAGS.to_records}: {sum(map(len, vectors.values()))} records carry descriptors of {dimension} "
        "dimensions; --teacher=records trains with them"
    )


def write_objects(records: RecordSet) -> None:
    """Describes the objects of a split into --output, and prints what was written."""
    if not FLAGS.output:
        raise InputError("--objects: --output=DIR is wanted.")
    split, options = records.split(FLAGS.split), script.from_flags(ExtractionOptions)
    header = provenance.header(script.flag_values(main), None, {"records": records.sha256})
    moving = bar(f"objects of {split.name}")
    if FLAGS.server:
        with client() as asked:
            found = extract_served_objects(asked, split, options, header, moving)
    else:
        run = RunDirectory.load(FLAGS.model)
        found = extract_objects(run, FLAGS.which, split, records.classes, options, header, FLAGS.batch, moving)
    found.save(FLAGS.output)
    script.save_flags(main, FLAGS.output)
    bare = int((found.objects.counts() == 0).sum())
    console.say(
        f"wrote {FLAGS.output}: {len(found.vectors)} objects of {len(found)} photos ({bare} without any), "
        f"{found.vectors.shape[1]} dimensions, {found.meta['milliseconds_per_photo']:.1f} ms a photo"
    )


def main() -> None:
    """Extracts and prints what was written."""
    if bool(FLAGS.server) == bool(FLAGS.model):
        raise InputError("exactly one of --server=HOST:PORT and --model=DIR is wanted.")
    if bool(FLAGS.output) == bool(FLAGS.to_records):
        raise InputError("exactly one of --output=DIR and --to_records=DIR is wanted.")
    if FLAGS.shards and (FLAGS.to_records or FLAGS.objects):
        raise InputError(f"--shards={FLAGS.shards} is of --output without --objects.")
    beam = script.from_flags(BeamOptions)
    if beam.runner:
        if not (FLAGS.shards and FLAGS.model):
            raise InputError(f"--runner={beam.runner} is of --model with --shards; both are wanted.")
        beam.check_installed()
    write = write_records if FLAGS.to_records else write_descriptors
    running = script.from_flags(RunningOptions)
    if FLAGS.server and running != RunningOptions():
        raise InputError("--precision, --devices and --batch_pixels are of --model=RUN, and --server is given.")
    prepare(running)
    if FLAGS.model:
        _refuse_flags(SERVER_FLAGS, "--server")
    records = RecordSet.load(FLAGS.records)
    if FLAGS.objects:
        write_objects(records)
        return
    _refuse_flags((field.name for field in dataclasses.fields(ExtractionOptions)), "--objects")
    if FLAGS.model:
        how = {"query_crop": FLAGS.query_crop, "running": running}
        write(describing.from_model(FLAGS.model, FLAGS.batch, FLAGS.which, **how), records)
        return
    with client() as asked:
        write(describing.from_server(asked, FLAGS.query_crop), records)


def _refuse_flags(names: Iterable[str], of: str) -> None:
    for name in names:
        if FLAGS[name].value != FLAGS[name].default:
            raise InputError(f"--{name}={FLAGS[name].value} is of {of}, which is not given.")


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
