"""A whole evaluation of a large memory-mapped database against the bare matrix product on the same file.

Example: python -m benchmarks.full_evaluation --rows=1000000 --dimension=2048
"""

import statistics

import numpy as np
from absl import flags

from benchmarks import judged_vectors, timing
from benchmarks.memory import peak_beyond_mapped
from pipelines import script
from tfretrieval import console
from tfretrieval.evaluation.evaluate import Evaluation, evaluate_conditions
from tfretrieval.evaluation.protocols import PROTOCOLS

FLAGS = flags.FLAGS

flags.DEFINE_integer("rows", 1_000_000, "Database photos.", lower_bound=1)
flags.DEFINE_integer("dimension", 2048, "Dimension of the descriptors.", lower_bound=1)
flags.DEFINE_integer("queries", 70, "Queries.", lower_bound=1)
flags.DEFINE_integer(
    "judged_rows", 4993, "The photos in front that judgements are about; as many as --rows spreads them.", lower_bound=1
)
flags.DEFINE_integer("product_rows", 32_768, "Rows of the bare product's blocks.", lower_bound=1)
flags.DEFINE_integer("rounds", 3, "Timed rounds.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the descriptors and judgements.")
flags.DEFINE_string("vectors", "runs/benchmarks/full_vectors.npy", "File of the descriptors, written if missing.")
flags.DEFINE_string("output", "runs/benchmarks", "Folder of the JSON file.")
PROTOCOL = PROTOCOLS["revisited"]


def main() -> None:
    """Times both sides in turn and writes the figures."""
    database = judged_vectors.write_vectors(FLAGS.vectors, FLAGS.rows, FLAGS.dimension, FLAGS.seed)
    judgements = judged_vectors.judge(FLAGS.queries, min(FLAGS.judged_rows, FLAGS.rows), FLAGS.seed)
    queries = judged_vectors.find_queries(database, judgements, FLAGS.seed)
    relevances = PROTOCOL.relevances(judgements, FLAGS.rows)
    product = np.empty((FLAGS.queries, min(FLAGS.product_rows, FLAGS.rows)), np.float32)

    def evaluation() -> Evaluation:
        return evaluate_conditions(queries, database, relevances, PROTOCOL)

    def matrix_product() -> None:
        for start in range(0, FLAGS.rows, FLAGS.product_rows):
            rows = np.asarray(database[start : start + FLAGS.product_rows])
            np.matmul(queries, rows.T, out=product.ravel()[: FLAGS.queries * len(rows)].reshape(FLAGS.queries, -1))

    peak = peak_beyond_mapped(evaluation)
    seconds = timing.in_turn({"evaluation": evaluation, "matrix product": matrix_product}, FLAGS.rounds)
    figures = {
        "gflops": {
            side: 2e-9 * FLAGS.queries * FLAGS.rows * FLAGS.dimension / statistics.median(times)
            for side, times in seconds.items()
        },
        "share_of_product_speed": statistics.median(
            bare / whole for whole, bare in zip(seconds["evaluation"], seconds["matrix product"], strict=True)
        ),
        "peak_bytes": peak,
        "map": {name: condition.map for name, condition in evaluation().conditions.items()},
    }
    for side, rate in figures["gflops"].items():
        console.say(f"{side}: {statistics.median(seconds[side]):.2f} s, {rate:.1f} GFLOP/s")
    console.say(f"{figures['share_of_product_speed']:.1%} of the product's speed, {peak / 1e6:.0f} MB beyond the file")
    timing.write("full_evaluation", seconds, figures, script.flag_values(main), FLAGS.output)


if __name__ == "__main__":
    script.run_main(main)
