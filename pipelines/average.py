"""Averages the weights of runs that began from the same weights, and writes the result as a run.

Example: python -m pipelines.average --checkpoints=runs/seed0,runs/seed1,runs/seed2 --output=runs/averaged
"""

from absl import flags

from pipelines import script
from tfretrieval import console
from tfretrieval.training.derived_runs import write_averaged_run
from tfretrieval.training.run_directory import RunDirectory

FLAGS = flags.FLAGS

flags.DEFINE_list(
    "checkpoints", None, "Run directories joined by commas, two or more of one architecture.", required=True
)
flags.DEFINE_enum("which", "best", ["best", "last", "untrained"], "Network of each run.")
flags.DEFINE_string("output", None, "Run directory to write.", required=True)


def main() -> None:
    """Averages and prints what was written."""
    runs = [RunDirectory.load(path) for path in FLAGS.checkpoints]
    write_averaged_run(runs, FLAGS.which, FLAGS.output, script.flag_values(main))
    console.say(
        f"wrote {FLAGS.output}, the mean of {len(runs)} networks; export and extract take it as they take any run"
    )


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
