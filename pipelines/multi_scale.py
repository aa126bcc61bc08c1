"""Makes a trained network describe each photo at several scales, and writes it as a run.

Example: python -m pipelines.multi_scale --checkpoint=runs/gem --scales=1,0.7071,0.5 --output=runs/gem_scales
"""

from absl import flags

from pipelines import script
from tfretrieval import console
from tfretrieval.errors import InputError
from tfretrieval.training.derived_runs import write_multi_scale_run
from tfretrieval.training.run_directory import RunDirectory

FLAGS = flags.FLAGS

flags.DEFINE_string("checkpoint", None, "Run directory of the trained network.", required=True)
flags.DEFINE_enum("which", "best", ["best", "last", "untrained"], "Network of the run.")
flags.DEFINE_list("scales", ["1", "0.7071", "0.5"], "Factors on the photo's sides, numbers joined by commas.")
flags.DEFINE_float(
    "power", None, "Exponent of the mean over scales; GeM's learnt p where there is no whitening, else 1."
)
flags.DEFINE_integer("image_size", 0, "Longer side in pixels at scale 1; the run's own by default.", lower_bound=0)
flags.DEFINE_string("output", None, "Run directory to write.", required=True)


def main() -> None:
    """Writes the run and prints what was written."""
    try:
        scales = tuple(float(scale) for scale in FLAGS.scales)
    except ValueError:
        raise InputError(f"--scales={','.join(FLAGS.scales)}; numbers joined by commas are wanted.") from None
    run, noted = RunDirectory.load(FLAGS.checkpoint), script.flag_values(main)
    write_multi_scale_run(run, FLAGS.which, scales, FLAGS.power, FLAGS.image_size, FLAGS.output, noted)
    console.say(
        f"wrote {FLAGS.output}, a network of {len(scales)} scales; export and extract take it as they take any run"
    )


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
