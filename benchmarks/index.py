"""An IVF index of a million drawn descriptors in mapped files, beside exact search by Faiss and by NumPy.

The descriptors are drawn in clusters: unit vectors of an instance share a centre, photos differ from it by noise, and
their dimensions have falling spreads, as descriptors after PCA have. The file is kept for further runs. Sides answer
batches of queries in turn, on all threads; recall is against the exact search of this toolkit.

Examples:
  python -m benchmarks.index --photos=1000000 --dimension=512
  python -m benchmarks.index --factory="IVF4096,PQ64,Refine(SQ8)" --parameters=nprobe=64,k_factor_rf=4
"""

import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import timing
from benchmarks.memory import peak_beyond_mapped
from pipelines import script
from tfretrieval import console
from tfretrieval.descriptors import Descriptors
from tfretrieval.search import index as indexes
from tfretrieval.search.exact import search_top
from tfretrieval.search.index import SearchIndex
from tfretrieval.search.index_factory import IndexOptions, faiss
from tfretrieval.search.index_parameters import parse_parameters, written
from tfretrieval.search.index_tuning import KnownNeighbours, measure, tune

FLAGS = flags.FLAGS

script.define_flags(IndexOptions)
FLAGS.set_default("factory", "IVF4096,PQ128x4fs,Refine(SQ8)")
FLAGS.set_default("train_photos", 131_072)
flags.DEFINE_integer("photos", 1_000_000, "Photos in the database.", lower_bound=1000)
flags.DEFINE_integer("dimension", 512, "Dimension of the descriptors.", lower_bound=8)
flags.DEFINE_integer(
    "queries", 4000, "Queries of a batch: half choose the parameters, half are held out.", lower_bound=2
)
flags.DEFINE_float("recall_target", 0.92, "Recall@10 that parameters are chosen for; --parameters overrules.")
flags.DEFINE_string("parameters", None, "Parameters to search with, as nprobe=16,k_factor_rf=4, rather than chosen.")
flags.DEFINE_integer("rounds", 3, "Timed rounds.", lower_bound=1)
flags.DEFINE_integer("exact_queries", 200, "Queries of a batch for the exact sides.", lower_bound=1)
flags.DEFINE_string("folder", "runs/benchmarks", "Where the descriptors and, meanwhile, the index are written.")
flags.DEFINE_string("output", "runs/benchmarks", "Folder of the JSON file.")

PHOTOS_OF_INSTANCE = 30
NOISE = 0.5
ROWS_AT_A_TIME = 16_384
K = 10


def draw(rng: np.random.Generator, centres: np.ndarray, count: int) -> np.ndarray:
    """Returns drawn unit vectors, float32 [count, D], each of an instance drawn among the centres, [I, D]."""
    vectors = centres[rng.integers(0, len(centres), count)]
    vectors += NOISE * rng.standard_normal(vectors.shape, np.float32)
    vectors *= np.arange(1, vectors.shape[1] + 1, dtype=np.float32) ** -0.5
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def database_and_queries() -> tuple[np.ndarray, np.ndarray]:
    """Returns the mapped descriptors, float32 [N, D], written if they are not there, and the queries, [Q, D]."""
    instances = FLAGS.photos // PHOTOS_OF_INSTANCE
    centres = np.random.default_rng([FLAGS.seed, 0]).standard_normal((instances, FLAGS.dimension), np.float32)
    path = Path(FLAGS.folder) / f"index_vectors_{FLAGS.photos}x{FLAGS.dimension}_{FLAGS.seed}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial, rng = path.with_suffix(".partial"), np.random.default_rng([FLAGS.seed, 1])
        into = np.lib.format.open_memmap(partial, "w+", np.float32, (FLAGS.photos, FLAGS.dimension))
        starts = range(0, FLAGS.photos, ROWS_AT_A_TIME)
        for first in console.progress(starts, "drawing", len(starts), "part"):
            into[first : first + ROWS_AT_A_TIME] = draw(rng, centres, min(ROWS_AT_A_TIME, FLAGS.photos - first))
        into.flush()
        partial.rename(path)
    return np.load(path, mmap_mode="r"), draw(np.random.default_rng([FLAGS.seed, 2]), centres, FLAGS.queries)


def build(folder: Path, database: np.ndarray) -> dict:
    """Builds the index; returns what that took: seconds, of all cores and by stage too, and memory."""
    ids = tuple(f"photo_{row:09}" for row in range(len(database)))
    descriptors, made = Descriptors(database, ids), {}

    def work() -> None:
        made.update(indexes.build(folder, descriptors, script.from_flags(IndexOptions), {}, console.progress))

    start, cores = time.perf_counter(), time.process_time()
    peak = peak_beyond_mapped(work)
    took = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cores, "bytes": peak}
    return took | {"stages": made["seconds"]}


def search_once(index: SearchIndex, queries: np.ndarray) -> dict:
    """Returns what one search of all queries takes: seconds of all cores for each query, and memory."""
    cores = time.process_time()
    peak = peak_beyond_mapped(lambda: index.search(queries, K))
    return {"cpu_seconds_of_a_query": (time.process_time() - cores) / len(queries), "bytes": peak}


def choose(index: SearchIndex, known: KnownNeighbours) -> dict[str, int]:
    """Sets and returns the parameters to search with."""
    if FLAGS.parameters:
        parameters = parse_parameters(FLAGS.parameters)
        index.use(parameters)
        return parameters
    return tune(index, known, FLAGS.recall_target, FLAGS.seed, console.progress)[0].parameters


def exact_sides(database: np.ndarray, queries: np.ndarray) -> dict:
    """Returns exact search by Faiss, its vectors in memory, and by this toolkit, mapped, with fewer queries."""
    flat = faiss().IndexFlatIP(database.shape[1])
    for first in range(0, len(database), ROWS_AT_A_TIME):
        flat.add(np.ascontiguousarray(database[first : first + ROWS_AT_A_TIME]))
    few = queries[: FLAGS.exact_queries]
    return {
        "faiss flat, in memory": lambda: flat.search(few, K),
        "numpy exact, mapped": lambda: search_top(few, database, K),
    }


def main() -> None:
    """Builds once, times all sides in turn, and writes the figures."""
    database, queries = database_and_queries()
    known = KnownNeighbours.of_queries(queries, database, K, console.progress)
    folder, load = Path(tempfile.mkdtemp(dir=FLAGS.folder)), os.getloadavg()
    try:
        figures: dict = {"build": build(folder, database)}
        index = SearchIndex.load(folder)
        figures["parameters"] = choose(index, known)
        figures["recall_at_10"] = measure(index, known.halves(FLAGS.seed)[1])[0]
        figures["search"] = search_once(index, queries)
        figures["peak_resident_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        figures["index_bytes"] = sum(path.stat().st_size for path in folder.iterdir())
        sides = {"index": lambda: index.search(queries, K), **exact_sides(database, queries)}
        seconds = timing.in_turn(sides, FLAGS.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    asked = {side: len(queries) if side == "index" else min(len(queries), FLAGS.exact_queries) for side in seconds}
    figures["queries_per_second"] = {side: asked[side] / float(np.median(times)) for side, times in seconds.items()}
    figures["load"] = {"cores": os.cpu_count(), "before": load, "after": os.getloadavg()}
    timing.write("index", seconds, figures, script.flag_values(main), FLAGS.output)
    tell(figures)


def tell(figures: dict) -> None:
    """Prints the figures."""
    took, search = figures["build"], figures["search"]
    console.say(
        f"{FLAGS.photos:,} x {FLAGS.dimension}, {FLAGS.factory}: built in {took['seconds']:.0f} s {took['stages']}, "
        f"{took['cpu_seconds']:.0f} s of cores"
    )
    console.say(f"recall@10 {figures['recall_at_10']:.4f} with {written(figures['parameters']) or 'no parameters'}")
    for side, rate in figures["queries_per_second"].items():
        console.say(f"{side}: {rate:,.0f} queries/s")
    console.say(f"index: {1e6 * search['cpu_seconds_of_a_query']:.0f} microseconds of a core for each query")
    sizes = figures["index_bytes"], took["bytes"], search["bytes"]
    console.say(
        "{:,.0f} MB on disk; beyond mapped files {:,.0f} to build, {:,.0f} to search".format(
            *(size / 1e6 for size in sizes)
        )
    )


if __name__ == "__main__":
    script.run_main(main)
