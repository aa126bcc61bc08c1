"""Fits a student's descriptors to an index of its teacher and writes a run whose network ends in the fitted map.

For asymmetric search: queries described by the student, the database once by the teacher. The student describes the
database's photos, or a sample of them, once; the map that brings these nearest to the index becomes its last layer.

Example: python -m pipelines.align --checkpoint=runs/student --descriptors=runs/described/student/database
--index=runs/described/teacher/database --output=runs/aligned
"""

import numpy as np
from absl import flags

from pipelines import script
from tfretrieval import console
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.training.derived_runs import write_whitened_run
from tfretrieval.training.run_directory import RunDirectory
from tfretrieval.training.teacher import TeacherVectors
from tfretrieval.whitening.to_teacher import align

FLAGS = flags.FLAGS

flags.DEFINE_string("checkpoint", None, "Run directory of the student.", required=True)
flags.DEFINE_enum("which", "best", ["best", "last", "untrained"], "Network of the run.")
flags.DEFINE_string(
    "descriptors",
    None,
    "The student's descriptors of photos of the index, as pipelines.extract writes them.",
    required=True,
)
flags.DEFINE_string(
    "index", None, "The teacher's descriptors; every photo of --descriptors is among them.", required=True
)
flags.DEFINE_string("output", None, "Run directory to write: best.keras and whitening.npz.", required=True)
flags.DEFINE_integer("seed", 0, "Draws the parts that the strength of the map is chosen by.")


def matched(samples: Descriptors, index: Descriptors) -> np.ndarray:
    """Returns the index's descriptors of the sampled photos, float32 [N, D], in the samples' order.

    Raises:
        InputError: the index lacks a photo.
    """
    vectors, known = TeacherVectors.by_id(index, samples.ids).of(np.arange(len(samples.ids)))
    missing = [photo for photo, found in zip(samples.ids, known, strict=True) if not found]
    if missing:
        raise InputError(
            f"--index={FLAGS.index} lacks {len(missing)} of the {len(samples.ids)} photos of --descriptors, first "
            f"{missing[0]!r}; the teacher's descriptors of the same photos are wanted."
        )
    return vectors


def main() -> None:
    """Fits, writes and prints what was done."""
    run, samples = RunDirectory.load(FLAGS.checkpoint), Descriptors.load(FLAGS.descriptors)
    index = Descriptors.load(FLAGS.index)
    fitted = align(samples.vectors, matched(samples, index), FLAGS.seed)
    fitted.facts["index_model"] = index.meta.get("model_sha256")
    write_whitened_run(run, FLAGS.which, samples, fitted, FLAGS.output, script.flag_values(main))
    facts = fitted.facts
    how = "no map is better than the student as it is" if facts["ridge"] is None else f"ridge {facts['ridge']:g}"
    console.say(
        f"fitted to {facts['samples']} photos of the index ({how}): cosine to the teacher on photos left out "
        f"{facts['cosine_before']:.4f} -> {facts['cosine_after']:.4f}"
    )
    console.say(f"wrote {FLAGS.output}; export and extract take it as they take any run")


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
