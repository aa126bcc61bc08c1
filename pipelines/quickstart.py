"""The whole job: photos -> records -> training -> SavedModel -> server -> descriptors -> evaluation -> page.

With no --photos, it draws its own small set of buildings.
Example: python -m pipelines.quickstart --output=runs/quickstart --photos=DIR --weights=FILE.weights.h5
"""

from absl import flags

from pipelines import quickstart_job, script

FLAGS = flags.FLAGS

flags.DEFINE_string("output", "runs/quickstart", "Directory for everything; an earlier quickstart there is replaced.")
script.define_flags(quickstart_job.QuickstartConfig)


def main() -> None:
    """Runs the job and prints its story."""
    config = script.from_flags(quickstart_job.QuickstartConfig)
    quickstart_job.Quickstart(FLAGS.output, config, script.flag_values(main)).run()


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
