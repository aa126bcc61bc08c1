"""Fits a whitening to saved descriptors and writes a run whose network ends in it.

Example: python -m pipelines.whiten --checkpoint=runs/gem --descriptors=runs/train --records=runs/recs --output=runs/w
"""

from absl import flags

from pipelines import script
from tfretrieval import console
from tfretrieval.data.record_set import RecordSet
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.training.derived_runs import write_whitened_run
from tfretrieval.training.run_directory import RunDirectory
from tfretrieval.whitening import fit_discriminative, fit_pca

FLAGS = flags.FLAGS

flags.DEFINE_string("checkpoint", None, "Run directory of the network that made the descriptors.", required=True)
flags.DEFINE_enum("which", "best", ["best", "last", "untrained"], "Network of the run.")
flags.DEFINE_string(
    "descriptors", None, "Descriptors of training photos, as pipelines.extract writes them.", required=True
)
flags.DEFINE_string("output", None, "Run directory to write: best.keras and whitening.npz.", required=True)
flags.DEFINE_enum(
    "method", "discriminative", ["discriminative", "pca"], "What is equalised: scatter within instances, or all."
)
flags.DEFINE_string("records", None, "discriminative: the record set of the photos, which tells their instances.")
flags.DEFINE_float("total_share", 0.1, "discriminative: share of the scatter of all descriptors added to that within.")
flags.DEFINE_integer("dimension", 0, "Dimensions kept; 0 keeps all.")
flags.DEFINE_float("shrinkage", 0.3, "Added to every variance, as a share of the mean of the 20 largest.")


def labels_of(samples: Descriptors) -> list[int]:
    """Returns the instances of saved descriptors, looked up in --records.

    Raises:
        InputError: --records is missing, or lacks one of the photos.
    """
    if not FLAGS.records:
        raise InputError(
            "--method=discriminative needs --records, the record set that the descriptors were extracted from."
        )
    records = RecordSet.load(FLAGS.records)
    label_of = {
        photo: label for split in records.splits.values() for photo, label in zip(split.ids, split.labels, strict=True)
    }
    missing = [photo for photo in samples.ids if photo not in label_of]
    if missing:
        raise InputError(
            f"--records={FLAGS.records} lacks {len(missing)} of the descriptors' photos, first {missing[0]!r}."
        )
    return [int(label_of[photo]) for photo in samples.ids]


def main() -> None:
    """Fits, writes and prints what was written."""
    run, samples = RunDirectory.load(FLAGS.checkpoint), Descriptors.load(FLAGS.descriptors)
    if FLAGS.method == "pca":
        whitening = fit_pca(samples.vectors, FLAGS.dimension, FLAGS.shrinkage)
    else:
        labels = labels_of(samples)
        whitening = fit_discriminative(samples.vectors, labels, FLAGS.dimension, FLAGS.shrinkage, FLAGS.total_share)
    write_whitened_run(run, FLAGS.which, samples, whitening, FLAGS.output, script.flag_values(main))
    kept, width = whitening.projection.shape
    console.say(f"fitted to {len(samples)} descriptors: {width} -> {kept} dimensions, shrinkage {FLAGS.shrinkage}")
    console.say(f"wrote {FLAGS.output}; export and extract take it as they take any run")


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
