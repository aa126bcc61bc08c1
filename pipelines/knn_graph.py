"""Finds the nearest neighbours of all photos among themselves, exactly.

Example: python -m pipelines.knn_graph --descriptors=runs/db --k=50 --output=runs/db-neighbours

On many machines, with Apache Beam (docs/beam.md): python -m pipelines.knn_graph --descriptors=runs/db --k=50
--output=runs/db-neighbours --runner=DirectRunner --pipeline_options="--direct_num_workers=4"
"""

from pathlib import Path

from absl import flags

from pipelines import script
from tfretrieval import console, files, provenance
from tfretrieval.beam.options import BeamOptions
from tfretrieval.descriptors import Descriptors
from tfretrieval.search.knn import neighbours
from tfretrieval.search.neighbour_lists import NeighbourLists
from tfretrieval.search.ranking import Ranking

FLAGS = flags.FLAGS

flags.DEFINE_string("descriptors", None, "Directory that pipelines.extract wrote.", required=True)
flags.DEFINE_string("output", None, "Directory to write: order.npy, similarity.npy, ids.txt, meta.json.", required=True)
flags.DEFINE_integer("k", 50, "Neighbours of each photo, at least 1.")
script.define_flags(BeamOptions)


def main() -> None:
    """Finds the neighbours and prints what was written."""
    database = Descriptors.load(FLAGS.descriptors)
    found = _neighbours(database)
    made_from = {"descriptors": files.sha256(Path(FLAGS.descriptors) / "vectors.npy")}
    header = provenance.header(script.flag_values(main, without=("output", *BeamOptions.names())), None, made_from)
    meta = {"k": found.order.shape[1], "model": database.meta.get("model"), **header}
    NeighbourLists(found, database.ids, meta).save(FLAGS.output)
    script.save_flags(main, FLAGS.output)
    console.say(f"wrote {FLAGS.output}: {found.order.shape[1]} neighbours of {len(database)} photos each")


def _neighbours(database: Descriptors) -> Ranking:
    """Finds the neighbours, here or by a runner."""
    running = script.from_flags(BeamOptions)
    if not running.runner:
        return neighbours(database.vectors, FLAGS.k, console.progress)
    running.check_installed()
    from tfretrieval.beam import knn

    return knn.neighbours(Path(FLAGS.descriptors) / "vectors.npy", FLAGS.k, FLAGS.output, running)


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
