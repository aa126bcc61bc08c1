"""Turns photos into TFRecord shards, and into a benchmark directory where there are queries and a database.

Example: python -m pipelines.make_records --source=folder --input=photos --output=runs/records --holdout_share=0.3

With objects: python -m pipelines.make_records --source=voc --input=photos --output=runs/objects
--splits=train:train,queries:test,database:train --crop_objects=queries

Of a benchmark with its own ground truth: python -m pipelines.make_records --source=roxford5k --input=roxford5k
--output=runs/roxford5k

On many machines, with Apache Beam (docs/beam.md): python -m pipelines.make_records --source=csv --input=photos.csv
--output=runs/records --runner=DirectRunner --pipeline_options="--direct_num_workers=4"
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from pipelines import script
from tfretrieval import console, files
from tfretrieval.beam.options import BeamOptions
from tfretrieval.data.benchmark_sources import JUDGED_SOURCES, LABEL_PROTOCOLS, LABELLED_SOURCES, published_notes
from tfretrieval.data.distractors import with_distractors
from tfretrieval.data.judgements import JudgedPhotos
from tfretrieval.data.object_sources import (
    BOXES_OF,
    OBJECT_SOURCES,
    ObjectOptions,
    ObjectPhotos,
    parse_splits,
    read_names,
    read_objects,
)
from tfretrieval.data.record_set import DESCRIPTION, JUDGED, RecordSet
from tfretrieval.data.record_shards import Rejected
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.data.write_records import DEFAULT_MAX_PIXELS, WriteOptions, write_record_set
from tfretrieval.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_enum(
    "source",
    "folder",
    sorted(LABELLED_SOURCES | OBJECT_SOURCES | JUDGED_SOURCES),
    "Kind of input: folder (one leaf folder per instance), csv (photo, instance, split), retrieval_sfm (a folder "
    "with retrieval-SfM-120k.pkl or its like and the photos in ims, both from "
    "http://cmp.felk.cvut.cz/cnnimageretrieval/data/train); with objects in boxes: voc (a folder of Pascal-VOC "
    "XML), coco (JSON), open_images (csv); or a benchmark, its photos and its ground truth, as roxford5k and rparis6k "
    "(gnd_roxford5k.pkl or .mat from http://cmp.felk.cvut.cz/revisitop/data/datasets, and the photos in jpg), oxford5k "
    "and paris6k (photos in jpg, and the text files from https://www.robots.ox.ac.uk/~vgg/data/oxbuildings and "
    "parisbuildings). docs/benchmarks.md tells of every benchmark what is needed and where it is had.",
)
flags.DEFINE_string("input", None, "The folder, or the csv or JSON file.", required=True)
flags.DEFINE_string("output", None, "Directory to write; it appears when everything is in it.", required=True)
flags.DEFINE_string(
    "name", None, "Name of the set; by default the source's for benchmarks with a ground truth, else the input's own."
)
flags.DEFINE_string(
    "distractors",
    None,
    "Benchmarks with a ground truth: photos to put after the database, which leaves the ground truth as it is. A text "
    "file of paths below jpg beside it, as revisitop1m.txt of http://ptak.felk.cvut.cz/revisitop/revisitop1m, the "
    "folder that it is in, or a folder of photos.",
)
flags.DEFINE_integer("shards", 0, "Shards of each split; 0 makes one for every 1,024 photos.")
flags.DEFINE_integer(
    "max_pixels", DEFAULT_MAX_PIXELS, "Photos with more pixels than this are rejected, from their header."
)
flags.DEFINE_float(
    "max_rejected", 0.1, "Share of rejected photos, or objects, above which the run fails and writes nothing."
)
flags.DEFINE_float(
    "holdout_share", 0.0, "Share held out as queries and database: of instances (folder) or photos (with objects)."
)
flags.DEFINE_float(
    "query_share",
    SourceOptions.query_share,
    "Share of a held-out instance's photos, or of held-out photos, that become queries.",
)
flags.DEFINE_string(
    "photos_root",
    None,
    "csv, coco, open_images: folder that relative photo paths start from; the csv file's own by default. "
    "gldv1, gldv2...: the folder that train, index and test are in.",
)
flags.DEFINE_string(
    "photo_list",
    None,
    "retrieval_sfm: name of the .pkl file in --input, where several are there. gldv1, gldv2...: name of the csv list, "
    "where it is not the usual one.",
)
flags.DEFINE_integer("seed", 0, "Seed of the choice of what is held out and of queries.")
flags.DEFINE_list(
    "splits",
    [],
    "With objects: SPLIT:GROUP words, as train:train,queries:test,database:train. Groups are folders or ImageSets "
    "lists (voc), or annotation files (coco, open_images). By default groups named train and val.",
)
flags.DEFINE_list("classes", [], "With objects: all classes, in the order of their labels, or a file of them.")
flags.DEFINE_list("train_classes", [], "With objects: classes that count in train and validation, or a file of them.")
flags.DEFINE_list("query_classes", [], "With objects: classes that count in the queries, or a file of them.")
flags.DEFINE_boolean("mixed_photos", False, "With objects: train also on whole photos that show further classes.")
flags.DEFINE_list("crop_objects", [], "With objects: splits whose objects become photos of their own, photo#k.")
flags.DEFINE_boolean("empty_photos", False, "With objects: keep photos without one; the database always does.")
flags.DEFINE_enum("boxes_of", "displayed", BOXES_OF, "With objects: whether boxes come before the EXIF orientation.")
flags.DEFINE_integer("first_pixel", 0, "voc: 1 for the VOC challenge's files, whose pixels count from 1.")
script.define_flags(BeamOptions)


def main() -> None:
    """Makes the records and prints what was written."""
    source = SourceOptions(FLAGS.holdout_share, FLAGS.query_share, FLAGS.photos_root, FLAGS.seed, FLAGS.photo_list)
    found, judged = _read(source)
    noted = script.flag_values(main, without=("output", *BeamOptions.names()))
    options = WriteOptions(
        FLAGS.name or (FLAGS.source if judged else Path(FLAGS.input).resolve().stem),
        FLAGS.shards,
        FLAGS.max_pixels,
        FLAGS.max_rejected,
        noted,
        FLAGS.seed,
        found.classes,
        found.left_out,
        found.orphans,
        judged,
        LABEL_PROTOCOLS.get(FLAGS.source, ""),
    )
    made, rejected = _write(found.entries, options)
    script.save_flags(main, FLAGS.output)
    for name, split in made.splits.items():
        shown = "" if judged else f" of {len(set(split.labels.tolist()))} instances"
        console.say(f"{name}: {len(split)} photos{shown} in {len(split.shards)} shards")
    if made.classes:
        _say_objects(made)
    for note in _notes(made):
        console.say(f"note: {note}")
    if rejected:
        console.say(f"rejected: {len(rejected)} photos, reasons in {FLAGS.output}/rejected.csv")
    console.say(f"wrote {FLAGS.output} (SHA-256 {made.sha256[:12]})")


def _write(entries: Sequence[PhotoEntry], options: WriteOptions) -> tuple[RecordSet, list[Rejected]]:
    """Writes the record set, here or by a runner."""
    running = script.from_flags(BeamOptions)
    if running.runner:
        running.check_installed()
        from tfretrieval.beam import records

        return records.write_record_set(entries, FLAGS.output, options, running)
    bar = lambda photos: iter(console.progress(photos, "photos to records", total=len(entries)))  # noqa: E731
    return write_record_set(entries, FLAGS.output, options, progress=bar)


def _read(options: SourceOptions) -> tuple[ObjectPhotos, JudgedPhotos | None]:
    """Reads the source; returns its photos, and with their ground truth those of a benchmark that has one."""
    if FLAGS.source in JUDGED_SOURCES:
        judged = JUDGED_SOURCES[FLAGS.source](FLAGS.input, options)
        judged = with_distractors(judged, FLAGS.distractors) if FLAGS.distractors else judged
        return ObjectPhotos(list(judged.entries)), judged
    if FLAGS.distractors:
        raise InputError(
            f"--distractors={FLAGS.distractors} is given with --source={FLAGS.source}; one of "
            f"{', '.join(sorted(JUDGED_SOURCES))} is wanted with it."
        )
    if FLAGS.source in OBJECT_SOURCES:
        return read_objects(FLAGS.source, FLAGS.input, options, _object_options()), None
    return ObjectPhotos(LABELLED_SOURCES[FLAGS.source](FLAGS.input, options)), None


def _object_options() -> ObjectOptions:
    names = {flag: read_names(FLAGS[flag].value, flag) for flag in ("classes", "train_classes", "query_classes")}
    return ObjectOptions(
        splits=parse_splits(FLAGS.splits),
        **names,
        mixed_photos=FLAGS.mixed_photos,
        crop_objects=tuple(FLAGS.crop_objects),
        empty_photos=FLAGS.empty_photos,
        boxes_of=FLAGS.boxes_of,
        first_pixel=FLAGS.first_pixel,
    )


def _notes(made: RecordSet) -> Sequence[str]:
    """Returns what a user should know of a benchmark: counts that differ from the published ones, say."""
    description = files.read_json(made.directory / DESCRIPTION, "a record set")
    if JUDGED in description:
        return description[JUDGED]["notes"]
    return published_notes(FLAGS.source, {name: len(split) for name, split in made.splits.items()})


def _say_objects(made: RecordSet) -> None:
    """Prints how many objects each split has, and what was left out."""
    description = files.read_json(made.directory / DESCRIPTION, "a record set")
    for name, split in description["splits"].items():
        console.say(f"{name}: {split['objects']} objects")
        if split["left_out"]:
            console.say(f"{name}: left out {split['left_out']} photos without a wanted object, or with others beside")
    objects = description["objects"]
    if objects["clipped"]:
        console.say(f"clipped: {objects['clipped']} boxes, at their photo's border")
    if objects["rejected"]:
        console.say(f"rejected: {objects['rejected']} objects, reasons in {made.directory}/rejected_objects.csv")


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
