"""Extracts the descriptors of records through a server, a SavedModel, or a training run's network.

Example: python -m pipelines.extract --server=localhost:8500 --records=runs/records --split=queries --output=runs/q

Into a copy of the records, for a student to learn from: python -m pipelines.extract --model=runs/gem
--records=runs/records --split=train --to_records=runs/taught

Of the objects in the photos: python -m pipelines.extract --objects --model=runs/objects --records=runs/cards
--split=database --output=runs/db
"""

import dataclasses
from collections.abc import Callable

from absl import flags

from export import describing
from export.client import DescriptorClient
from export.describing import Describer
from pipelines import script
from tfretrieval import console, provenance
from tfretrieval.data.query_crops import QUERY_CROPS, SCALED
from tfretrieval.data.record_set import RecordSet
from tfretrieval.data.teacher_records import TeacherCard, write_with_descriptors
from tfretrieval.errors import InputError
from tfretrieval.object_extraction import ExtractionOptions, extract_objects
from tfretrieval.training.run_directory import RunDirectory

FLAGS = flags.FLAGS

flags.DEFINE_string("server", None, "HOST:PORT of a TensorFlow Serving gRPC port (or of export.serve).")
flags.DEFINE_string("model", None, "Folder of a SavedModel, or a run directory, to use in this process instead.")
flags.DEFINE_string("model_name", "descriptor", "Name of the model on the server.")
flags.DEFINE_enum("which", "best", ["best", "last", "untrained"], "Of a run directory: the network.")
flags.DEFINE_string("records", None, "Directory that pipelines.make_records wrote.", required=True)
flags.DEFINE_string(
    "split", None, "Split to describe; may be left out where there is only one, and with --to_records for all."
)
flags.DEFINE_string("output", None, "Directory to write: vectors.npy, ids.txt, meta.json.")
flags.DEFINE_string(
    "to_records", None, "Record set to write in the place of --output: a copy whose records carry the descriptors."
)
flags.DEFINE_integer("batch", 32, "Most photos in one request.", lower_bound=1)
flags.DEFINE_float("timeout", 60.0, "Seconds that one request may take, with its retries.", lower_bound=0.001)
flags.DEFINE_enum(
    "query_crop",
    SCALED,
    QUERY_CROPS,
    "Queries whose benchmark gives them a box: scaled describes the crop at the size its content has in the whole "
    "photo, as the revisited benchmarks do; unscaled at the image size, as a photo of its own; none the whole photo.",
)
flags.DEFINE_boolean("objects", False, "Describe the objects of the photos too, by the run in --model.")
script.define_flags(ExtractionOptions)


def bar(split: str) -> Callable:
    """Returns what makes a progress bar from a number of photos."""
    return lambda total: console.progress(None, f"describing {split}", total=total)


def write_descriptors(describer: Describer, records: RecordSet) -> None:
    """Describes a split into --output, and prints what was written."""
    split = records.split(FLAGS.split)
    header = provenance.header(script.flag_values(main), None, {"records": records.sha256})
    found = describer.extract(split, bar(split.name), header)
    found.save(FLAGS.output)
    script.save_flags(main, FLAGS.output)
    console.say(
        f"wrote {FLAGS.output}: {len(found)} descriptors of {found.vectors.shape[1]} dimensions, "
        f"{found.meta['milliseconds_per_photo']:.1f} ms a photo"
    )


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
    if not (FLAGS.model and FLAGS.output):
        raise InputError("--objects: --model=RUN, the directory of a run, and --output=DIR are wanted.")
    run, split = RunDirectory.load(FLAGS.model), records.split(FLAGS.split)
    header = provenance.header(script.flag_values(main), None, {"records": records.sha256})
    how = (script.from_flags(ExtractionOptions), header, FLAGS.batch, bar(f"objects of {split.name}"))
    found = extract_objects(run, FLAGS.which, split, records.classes, *how)
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
    write = write_records if FLAGS.to_records else write_descriptors
    records = RecordSet.load(FLAGS.records)
    if FLAGS.objects:
        write_objects(records)
        return
    _refuse_object_flags()
    if FLAGS.model:
        write(describing.from_model(FLAGS.model, FLAGS.batch, FLAGS.which, query_crop=FLAGS.query_crop), records)
        return
    with DescriptorClient(
        FLAGS.server, FLAGS.model_name, timeout=FLAGS.timeout, max_batch_photos=FLAGS.batch
    ) as client:
        write(describing.from_server(client, FLAGS.query_crop), records)


def _refuse_object_flags() -> None:
    for field in dataclasses.fields(ExtractionOptions):
        if FLAGS[field.name].value != FLAGS[field.name].default:
            raise InputError(f"--{field.name}={FLAGS[field.name].value} is of --objects, which is not given.")


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
