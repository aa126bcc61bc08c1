"""Fits a whitening to saved descriptors and writes a run whose network ends in it.

Example: python -m pipelines.whiten --checkpoint=runs/gem --descriptors=runs/train --output=runs/whitened
"""

from absl import flags

from pipelines import script
from tfretrieval import console
from tfretrieval.descriptors import Descriptors
from tfretrieval.training.run_directory import RunDirectory
from tfretrieval.training.whiten import write_whitened_run
from tfretrieval.whitening import fit_pca

FLAGS = flags.FLAGS

flags.DEFINE_string("checkpoint", None, "Run directory of the network that made the descriptors.", required=True)
flags.DEFINE_enum("which", "best", ["best", "last", "untrained"], "Network of the run.")
flags.DEFINE_string(
    "descriptors", None, "Descriptors of training photos, as pipelines.extract writes them.", required=True
)
flags.DEFINE_string("output", None, "Run directory to write: best.keras and whitening.npz.", required=True)
flags.DEFINE_integer("dimension", 0, "Dimensions kept; 0 keeps all.")
flags.DEFINE_float("shrinkage", 0.3, "Added to every variance, as a share of the mean of the 20 largest.")


def main() -> None:
    """Fits, writes and prints what was written."""
    run, samples = RunDirectory.load(FLAGS.checkpoint), Descriptors.load(FLAGS.descriptors)
    whitening = fit_pca(samples.vectors, FLAGS.dimension, FLAGS.shrinkage)
    write_whitened_run(run, FLAGS.which, samples, whitening, FLAGS.output, script.flag_values(main))
    kept, width = whitening.projection.shape
    console.say(f"fitted to {len(samples)} descriptors: {width} -> {kept} dimensions, shrinkage {FLAGS.shrinkage}")
    console.say(f"wrote {FLAGS.output}; export and extract take it as they take any run")


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
