"""Exact search by this toolkit, by NumPy alone and by Faiss alone, on the same vectors; the results are compared.

Example: python -m benchmarks.search_peers
"""

import numpy as np
from absl import flags

from benchmarks import timing
from benchmarks.limits import optional
from pipelines import script
from tfretrieval.data.parallel import CORES
from tfretrieval.search.exact import search_top

FLAGS = flags.FLAGS

flags.DEFINE_integer("database", 100_000, "Vectors that are searched.")
flags.DEFINE_integer("queries", 1000, "Vectors that are searched for.")
flags.DEFINE_integer("dimension", 512, "Their dimension.")
flags.DEFINE_integer("k", 100, "Rows wanted for each query.")
flags.DEFINE_integer("rounds", 5, "Timed runs of each side.")
flags.DEFINE_string("output", "runs/benchmarks", "Folder of the JSON file and the chart.")

OURS = "this toolkit"


def unit_vectors(count: int, dimension: int, seed: int) -> np.ndarray:
    """Returns float32 [count, dimension], rows of length 1."""
    vectors = np.random.default_rng(seed).standard_normal((count, dimension), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_numpy(queries: np.ndarray, database: np.ndarray, k: int) -> np.ndarray:
    """Searches as one writes it: all similarities, a partition, a sort; int [Q, k]."""
    scores = queries @ database.T
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)


def main() -> None:
    """Times the sides and says how many of the rows they found are the same."""
    queries, database = (
        unit_vectors(count, FLAGS.dimension, seed) for seed, count in enumerate((FLAGS.queries, FLAGS.database))
    )
    k, found = min(FLAGS.k, FLAGS.database), {}

    def keep(name: str, run) -> None:
        found[name] = run()

    sides = {OURS: lambda: keep(OURS, lambda: search_top(queries, database, k).order)}
    if faiss := optional("faiss"):
        faiss.omp_set_num_threads(CORES)
        index = faiss.IndexFlatIP(FLAGS.dimension)
        index.add(database)
        sides["Faiss, IndexFlatIP"] = lambda: keep("Faiss, IndexFlatIP", lambda: index.search(queries, k)[1])
    else:
        print("Faiss is left out: the package faiss-cpu is not installed; `make peers` installs it.")
    sides["NumPy alone"] = lambda: keep("NumPy alone", lambda: by_numpy(queries, database, k))
    seconds = timing.in_turn(sides, FLAGS.rounds)
    same = {name: float((rows == found[OURS]).mean()) for name, rows in found.items()}
    print(
        "the same rows in the same places as this toolkit's:", {name: round(share, 6) for name, share in same.items()}
    )
    title = f"Exact search of {FLAGS.database:,} x {FLAGS.dimension}, the best {k}"
    settings, more = script.flag_values(main), {"same_places": same}
    timing.report("search_peers", seconds, FLAGS.queries, settings, FLAGS.output, "queries", title, more)


if __name__ == "__main__":
    script.run_main(main)
