"""Turns photos into TFRecord shards, and into a benchmark directory where there are queries and a database.

Example: python -m pipelines.make_records --source=folder --input=photos --output=runs/records --holdout_share=0.3
"""

from pathlib import Path

from absl import flags

from pipelines import script
from tfretrieval import console
from tfretrieval.data.sources import SOURCES, SourceOptions
from tfretrieval.data.write_records import DEFAULT_MAX_PIXELS, WriteOptions, write_record_set

FLAGS = flags.FLAGS

flags.DEFINE_enum(
    "source",
    "folder",
    sorted(SOURCES),
    "Kind of input: folder (one leaf folder per instance) or csv (photo, instance, split).",
)
flags.DEFINE_string("input", None, "The folder or the csv file.", required=True)
flags.DEFINE_string("output", None, "Directory to write; it appears when everything is in it.", required=True)
flags.DEFINE_string("name", None, "Name of the set; the input's own name by default.")
flags.DEFINE_integer("shards", 0, "Shards of each split; 0 makes one for every 1,024 photos.")
flags.DEFINE_integer(
    "max_pixels", DEFAULT_MAX_PIXELS, "Photos with more pixels than this are rejected, from their header."
)
flags.DEFINE_float("max_rejected", 0.1, "Share of rejected photos above which the run fails and writes nothing.")
flags.DEFINE_float("holdout_share", 0.0, "folder: share of the instances held out as queries and database.")
flags.DEFINE_float(
    "query_share", SourceOptions.query_share, "folder: share of a held-out instance's photos that become queries."
)
flags.DEFINE_string(
    "photos_root", None, "csv: folder that relative photo paths start from; the csv file's own by default."
)
flags.DEFINE_integer("seed", 0, "folder: seed of the choice of held-out instances and queries.")


def main() -> None:
    """Makes the records and prints what was written."""
    source = SourceOptions(FLAGS.holdout_share, FLAGS.query_share, FLAGS.photos_root, FLAGS.seed)
    entries = SOURCES[FLAGS.source](FLAGS.input, source)
    noted = {name: value for name, value in script.flag_values(main).items() if name != "output"}
    options = WriteOptions(
        FLAGS.name or Path(FLAGS.input).resolve().stem,
        FLAGS.shards,
        FLAGS.max_pixels,
        FLAGS.max_rejected,
        noted,
        FLAGS.seed,
    )
    bar = lambda photos: iter(console.progress(photos, "photos to records", total=len(entries)))  # noqa: E731
    made, rejected = write_record_set(entries, FLAGS.output, options, progress=bar)
    script.save_flags(main, FLAGS.output)
    for name, split in made.splits.items():
        console.say(
            f"{name}: {len(split)} photos of {len(set(split.labels.tolist()))} instances in {len(split.shards)} shards"
        )
    if rejected:
        console.say(f"rejected: {len(rejected)} photos, reasons in {FLAGS.output}/rejected.csv")
    console.say(f"wrote {FLAGS.output} (SHA-256 {made.sha256[:12]})")


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
