"""Re-ranking of drawn descriptors in a memory-mapped file: seconds, and the most memory held at a time.

The file is written in parts, so that its making does not count as memory: unit vectors in clusters of all degrees of
likeness. Memory is told twice: all that was resident, pages of mapped files included, and the process's own alone.

Examples:
  python -m benchmarks.reranking --rerank=aqe --photos=1000000
  python -m benchmarks.reranking --rerank=dba --photos=1000000 --dimension=128
  python -m benchmarks.reranking --rerank=diffusion --photos=100000
  python -m benchmarks.reranking --rerank=diffusion --photos=100000 --offline_rows
"""

import contextlib
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import timing
from pipelines import script
from tfretrieval import console
from tfretrieval.errors import InputError
from tfretrieval.search.reranking import Context, parse_chain

FLAGS = flags.FLAGS

flags.DEFINE_string("rerank", "aqe", "The chain of re-ranking.")
flags.DEFINE_integer("photos", 10_000, "Photos in the database, N.", lower_bound=2)
flags.DEFINE_integer("dimension", 512, "D.", lower_bound=2)
flags.DEFINE_integer("queries", 70, "Queries.", lower_bound=1)
flags.DEFINE_integer("keep", 1000, "Photos of each query's ranking.", lower_bound=1)
flags.DEFINE_boolean("offline_rows", False, "Of diffusion, solve the rows of all photos rather than re-rank.")
flags.DEFINE_string("folder", None, "Where the database is written meanwhile; the temporary folder when left out.")

PHOTOS_OF_INSTANCE = 30
ROWS_AT_A_TIME = 16_384


def draw(rng: np.random.Generator, instances: np.ndarray) -> np.ndarray:
    """Returns drawn unit vectors of instances, float32 [len(instances), D]."""
    spread = np.arange(1, FLAGS.dimension + 1, dtype=np.float32) ** -0.5
    vectors = np.empty((len(instances), FLAGS.dimension), np.float32)
    for place, instance in enumerate(instances.tolist()):
        vectors[place] = np.random.default_rng([1, instance]).standard_normal(FLAGS.dimension, np.float32)
    vectors += 0.5 * rng.standard_normal(vectors.shape, np.float32)
    vectors *= spread
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_database(path: Path) -> np.ndarray:
    """Writes drawn descriptors to a file and returns them mapped, float32 [N, D]."""
    rng, instances = np.random.default_rng(0), max(1, FLAGS.photos // PHOTOS_OF_INSTANCE)
    written = np.lib.format.open_memmap(path, "w+", np.float32, (FLAGS.photos, FLAGS.dimension))
    starts = range(0, FLAGS.photos, ROWS_AT_A_TIME)
    for first in console.progress(starts, "drawing", len(starts), "part"):
        count = min(ROWS_AT_A_TIME, FLAGS.photos - first)
        written[first : first + count] = draw(rng, rng.integers(0, instances, count))
    written.flush()
    del written
    return np.load(path, mmap_mode="r")


def own_bytes() -> int:
    """Returns the process's resident memory without pages of files, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise InputError("/proc/self/status tells no RssAnon; this benchmark needs Linux.")


@contextlib.contextmanager
def watched(peak: dict[str, int]) -> Iterator[None]:
    """Notes as peak["own"] the most of `own_bytes` inside, seen twenty times a second."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            peak["own"] = max(peak["own"], own_bytes())

    peak["own"] = own_bytes()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def main() -> None:
    """Re-ranks once, and writes seconds and memory."""
    chain = parse_chain(FLAGS.rerank)
    if FLAGS.offline_rows and [step.name for step in chain.steps] != ["diffusion"]:
        raise InputError(f"--offline_rows and --rerank={FLAGS.rerank}; diffusion alone is wanted.")
    peak: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=FLAGS.folder) as folder:
        database = write_database(Path(folder) / "vectors.npy")
        rng = np.random.default_rng(2)
        queries = draw(rng, rng.integers(0, max(1, FLAGS.photos // PHOTOS_OF_INSTANCE), FLAGS.queries))
        before, start = own_bytes(), time.perf_counter()
        with watched(peak):
            if FLAGS.offline_rows:
                chain.steps[0].offline_rows(database, console.progress)
            else:
                context = Context(folder=folder)
                chain.rerank(queries, database, None, console.progress, FLAGS.keep, context)
        seconds = time.perf_counter() - start
    resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {
        "peak_resident_gb": resident / 1e9,
        "peak_own_gb": peak["own"] / 1e9,
        "own_gb_before": before / 1e9,
        "database_gb": database.nbytes / 1e9,
    }
    name = "reranking_" + ("offline_rows" if FLAGS.offline_rows else "_".join(step.name for step in chain.steps))
    timing.write(name, {str(chain): [seconds]}, figures, script.flag_values(main))
    print(f"{chain}\n{FLAGS.photos} x {FLAGS.dimension}: {seconds:.1f} s")
    for figure, value in figures.items():
        print(f"{figure:>18}: {value:.2f}")


if __name__ == "__main__":
    script.run_main(main)
