"""Average precision by counting against a full sort and a loop, at the size of a benchmark with a million distractors.

Both sides begin from the same similarities, which are made beforehand; memory is that of counting from descriptors in a
mapped file, products included. Example: python -m benchmarks.counting_ap --rows=1005994
"""

import statistics
from collections.abc import Iterator
from unittest import mock

import numpy as np
from absl import flags

from benchmarks import judged_vectors, timing
from benchmarks.memory import peak_beyond_mapped
from pipelines import script
from tfretrieval import console
from tfretrieval.evaluation import counting
from tfretrieval.evaluation.evaluate import Evaluation, evaluate_conditions
from tfretrieval.evaluation.protocols import PROTOCOLS
from tfretrieval.search.exact import similarity_blocks

FLAGS = flags.FLAGS

flags.DEFINE_integer("rows", 1_005_994, "Database photos.", lower_bound=1)
flags.DEFINE_integer("dimension", 128, "Dimension of the descriptors.", lower_bound=1)
flags.DEFINE_integer("queries", 70, "Queries.", lower_bound=1)
flags.DEFINE_integer("judged_rows", 4993, "The photos in front that judgements are about.", lower_bound=1)
flags.DEFINE_integer("rounds", 3, "Timed rounds.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the descriptors and judgements.")
flags.DEFINE_string("vectors", "runs/benchmarks/counting_vectors.npy", "File of the descriptors, written if missing.")
flags.DEFINE_string("output", "runs/benchmarks", "Folder of the JSON file.")
PROTOCOL = PROTOCOLS["revisited"]


def all_similarities(queries: np.ndarray, database: np.ndarray) -> np.ndarray:
    """Returns float32 [Q, N], the very numbers that counting sees."""
    found = np.empty((len(queries), len(database)), np.float32)
    for first, block in similarity_blocks(queries, database, counting._ROWS_AT_A_TIME):
        found[:, first : first + block.shape[1]] = block
    return found


def evaluate_stored(similarities: np.ndarray, relevances: dict) -> Evaluation:
    """Measures similarities that are there already, block by block, as if they had been multiplied."""

    def stored_blocks(_, rows: np.ndarray, many: int) -> Iterator[tuple[int, np.ndarray]]:
        for first in range(0, len(rows), many):
            yield first, np.array(rows[first : first + many].T, order="C")

    with mock.patch.object(counting, "similarity_blocks", stored_blocks):
        unit = np.eye(len(similarities), dtype=np.float32)
        return evaluate_conditions(unit, similarities.T, relevances, PROTOCOL)


def reference(similarities: np.ndarray, judgements: list, kind: str | None) -> dict[str, np.ndarray]:
    """The usual way: a full argsort, database by queries, then a loop over queries and conditions; AP by condition."""
    ranks = np.argsort(-similarities.T, axis=0, kind=kind)
    found = {condition.name: np.full(len(judgements), np.nan) for condition in PROTOCOL.conditions}
    for condition in PROTOCOL.conditions:
        for query, judgement in enumerate(judgements):
            relevant, junk = (
                [row for grade in grades for row in getattr(judgement, grade)]
                for grades in (condition.relevant, condition.junk)
            )
            if not relevant:
                continue
            places = np.flatnonzero(np.isin(ranks[:, query], relevant))
            left_out = np.flatnonzero(np.isin(ranks[:, query], junk))
            ap = 0.0
            for before, place in enumerate(places.tolist()):
                place -= int(np.searchsorted(left_out, place))
                ap += ((before / place if place else 1.0) + (before + 1) / (place + 1)) / 2 / len(relevant)
            found[condition.name][query] = ap
    return found


def main() -> None:
    """Times the sides in turn, checks that they agree, and writes the figures."""
    database = judged_vectors.write_vectors(FLAGS.vectors, FLAGS.rows, FLAGS.dimension, FLAGS.seed)
    judgements = judged_vectors.judge(FLAGS.queries, min(FLAGS.judged_rows, FLAGS.rows), FLAGS.seed)
    queries = judged_vectors.find_queries(database, judgements, FLAGS.seed)
    relevances = PROTOCOL.relevances(judgements, FLAGS.rows)

    def from_descriptors() -> Evaluation:
        return evaluate_conditions(queries, database, relevances, PROTOCOL)

    peak, ours = peak_beyond_mapped(from_descriptors), from_descriptors()
    similarities = all_similarities(queries, database)
    theirs = reference(similarities, judgements, "stable")
    gap = max(float(np.nanmax(np.abs(ours.conditions[name].ap - ap))) for name, ap in theirs.items())
    sides = {
        "counting": lambda: evaluate_stored(similarities, relevances),
        "argsort and loop": lambda: reference(similarities, judgements, None),
    }
    seconds = timing.in_turn(sides, FLAGS.rounds)
    ratio = statistics.median(
        loop / count for count, loop in zip(seconds["counting"], seconds["argsort and loop"], strict=True)
    )
    for side, times in seconds.items():
        console.say(f"{side}: {statistics.median(times):.2f} s")
    console.say(f"counting is {ratio:.1f} times as fast; average precisions differ by at most {gap:.2g}")
    console.say(f"from descriptors it held {peak / 1e6:.0f} MB beyond the mapped vectors")
    figures = {"ratio": ratio, "largest_ap_difference": gap, "peak_bytes": peak}
    timing.write("counting_ap", seconds, figures, script.flag_values(main), FLAGS.output)
    if gap > 1e-12:
        raise SystemExit(f"the average precisions differ by {gap}")


if __name__ == "__main__":
    script.run_main(main)
