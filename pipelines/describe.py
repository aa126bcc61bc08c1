"""Prints a run's network as a table, and draws where it looks when it compares photos.

Example: python -m pipelines.describe --checkpoint=runs/gem --image=a.jpg --other=b.jpg --output=look.png
"""

from pathlib import Path

from absl import flags

from pipelines import script
from tfretrieval import console
from tfretrieval.errors import InputError
from tfretrieval.evaluation import heat
from tfretrieval.models import summary
from tfretrieval.training.run_directory import RunDirectory

FLAGS = flags.FLAGS

flags.DEFINE_string("checkpoint", None, "Run directory of the network.", required=True)
flags.DEFINE_enum("which", "best", ["best", "last", "untrained"], "Network of the run.")
flags.DEFINE_string("size", None, "WIDTHxHEIGHT in pixels that shapes and GFLOPs are for; the run's size by default.")
flags.DEFINE_string("image", None, "Photo to draw the contributions of.")
flags.DEFINE_string("other", None, "Photo that --image is compared with; itself by default.")
flags.DEFINE_string("output", None, "PNG file to write the drawing of --image to.")


def check_flags() -> None:
    """Refuses flags that do not go together.

    Raises:
        InputError: --other or --output without --image, --image without --output, or no place for a PNG file.
    """
    for name in ("other", "output"):
        if FLAGS[name].value and not FLAGS.image:
            raise InputError(f"--{name}={FLAGS[name].value} was given without --image; the photo to draw is wanted.")
    if FLAGS.image and not FLAGS.output:
        raise InputError(f"--image={FLAGS.image} was given without --output; the PNG file to write is wanted.")
    if FLAGS.output and (Path(FLAGS.output).suffix.lower() != ".png" or not Path(FLAGS.output).parent.is_dir()):
        raise InputError(f"--output={FLAGS.output}; a file name that ends in .png, in a folder that exists, is wanted.")


def main() -> None:
    """Prints the table and writes the picture."""
    check_flags()
    run = RunDirectory.load(FLAGS.checkpoint)
    side = run.read_description()["training"]["image_size"]
    height, width = summary.parse_size(FLAGS.size) if FLAGS.size is not None else (side, side)
    model = run.load_model(FLAGS.which)
    console.say(
        f"{run.model(FLAGS.which)}: a photo of {width}x{height} pixels (width x height), 1 multiply-add = 2 FLOPs"
    )
    for line in summary.table(summary.summarise(model, height, width)):
        console.say(line)
    if FLAGS.image:
        picture = heat.look(model, side, [path for path in (FLAGS.image, FLAGS.other) if path])
        heat.write_png(FLAGS.output, picture)
        console.say(f"wrote {FLAGS.output}: where the network looks in photos of at most {side} pixels a side")


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
