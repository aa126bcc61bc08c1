"""Writes a trained descriptor as a SavedModel that TensorFlow Serving hosts: version 1, 2, ... under one folder.

A run of pipelines.train_objects gets the signature `objects` besides: what is in a photo, where, and its descriptors;
--index=DIR adds `search`. With --format, --output is instead a folder with one file of that format.

Example: python -m export.saved_model --checkpoint=runs/gem --output=models/descriptor
"""

from pathlib import Path

from absl import flags

from export import formats, saving
from export.object_signature import ObjectSettings
from export.precision_check import PrecisionSettings
from export.search_index import IndexSettings
from export.sent_photos import PhotoLimits
from pipelines import script
from tfretrieval import console, files
from tfretrieval.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string("checkpoint", None, "Run directory of a training, or a .keras file.", required=True)
flags.DEFINE_string("output", None, "Model folder; the next free version number is written below it.", required=True)
flags.DEFINE_enum("which", "best", ["best", "last", "untrained"], "Network of the run to export.")
flags.DEFINE_integer("image_size", 0, "Longer side in pixels that photos are resized to; the run's own by default.")
flags.DEFINE_enum("format", formats.SAVED_MODEL, formats.FORMATS, "What is written; see docs/export.md.")
flags.DEFINE_string("metrics", None, "metrics.json of an evaluation of this network, for the model's card.")
script.define_flags(PrecisionSettings)
script.define_flags(IndexSettings)
script.define_flags(ObjectSettings)
script.define_flags(PhotoLimits)


def main() -> None:
    """Exports and prints how to host the model."""
    source = saving.load_source(FLAGS.checkpoint, FLAGS.which, FLAGS.image_size)
    precision, index = script.from_flags(PrecisionSettings), script.from_flags(IndexSettings)
    # Without the output, so that exports of one checkpoint to two places are equal.
    told = script.flag_values(main, without=("output",))
    if FLAGS.format != formats.SAVED_MODEL:
        if index.index:
            raise InputError(f"--index is of --format=saved_model; --format={FLAGS.format} has descriptors alone.")
        path = saving.write_file_of(source, FLAGS.output, told, FLAGS.format, precision, FLAGS.metrics)
        console.say(f"wrote {path}: uint8 [n, h, w, 3] -> float32 [n, {source.dimension}]")
        tell_check(path.parent)
        return
    objects, limits = script.from_flags(ObjectSettings), script.from_flags(PhotoLimits)
    version = saving.write_version(source, FLAGS.output, told, objects, limits, precision, index, FLAGS.metrics)
    console.say(
        f"wrote {version}: image_bytes [N] -> descriptors [N, {source.dimension}], photos at {source.image_size} px"
    )
    tell_check(version)
    if source.finds_objects:
        console.say(f"signature objects: up to {objects.objects_most} a photo, of {len(source.classes)} classes")
    console.say(f"TensorFlow Serving hosts it with:\n\n{saving.serving_command(FLAGS.output)}\n")


def tell_check(folder: Path) -> None:
    """Prints what the card says of the comparison with the Keras model, and of the index."""
    card = files.read_json(folder / saving.CARD, "a descriptor's card")
    checked, search = card.get("precision_check"), card.get("search")
    if checked and "not_compared" in checked:
        console.say(f"not compared with the Keras model: {checked['not_compared']}")
    elif checked:
        change = f", mAP {checked['map_float32']:.4f} -> {checked['map']:.4f}" if "map" in checked else ""
        console.say(
            f"{card['descriptor']['precision']} against the Keras model on {checked['photos']} photos "
            f"({checked['of']}): cosine at least {checked['min_cosine']:.6f}, {checked['mean_cosine']:.6f} in the "
            f"mean{change}"
        )
    if search:
        found = search["recall_against_exact"]
        console.say(
            f"signature search: {search['photos']} photos as {search['kind']}, {search['bytes']:,} bytes; "
            f"recall@{found['k']} against exact search: {found['recall']}"
        )


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
