"""Builds an approximate index of descriptors with Faiss, adds and deletes photos, and compares kinds of index.

Build: python -m pipelines.index --database=runs/db --output=runs/index --factory="IVF1024,PQ64" --recall_target=0.95

Add, delete: ... --index=runs/index --add=runs/more    ... --index=runs/index --delete=gone.txt

Compare: ... --database=runs/db --output=runs/indexes --compare="Flat | IVF1024,Flat | HNSW32"
"""

from pathlib import Path

import numpy as np
from absl import flags

from pipelines import script
from tfretrieval import console, files, provenance
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.evaluation.benchmark import Benchmark
from tfretrieval.evaluation.index_comparison import (
    COMPRESSION,
    USUAL,
    Judged,
    bytes_chart,
    compare_indexes,
    factories,
    speed_chart,
)
from tfretrieval.evaluation.index_evaluation import benchmark_conditions
from tfretrieval.search import index as indexes
from tfretrieval.search.index import SearchIndex
from tfretrieval.search.index_factory import IndexOptions
from tfretrieval.search.index_parameters import written
from tfretrieval.search.index_tuning import KnownNeighbours, tune

FLAGS = flags.FLAGS
COMPARISON = "comparison.json"

flags.DEFINE_string("database", None, "Descriptors to index, as pipelines.extract writes them.")
flags.DEFINE_string("output", None, "Directory to write; with --add or --delete, --index itself when left out.")
script.define_flags(IndexOptions)
flags.DEFINE_string(
    "queries", None, "Descriptors of queries that recall is measured with; photos of the database when left out."
)
flags.DEFINE_integer("k", 10, "Photos of a query whose recall is measured.", lower_bound=1)
flags.DEFINE_float("recall_target", None, "Recall@k that the fastest parameters are to reach; 0.95 with --compare.")
flags.DEFINE_string(
    "compare",
    None,
    f"Factories with '|' between them, of which each is built and measured; '{USUAL}' is one of each family, "
    f"'{COMPRESSION}' ways to keep descriptors in fewer bytes.",
)
flags.DEFINE_string("benchmark", None, "Of --compare: records with judged queries, to measure mAP; takes --queries.")
flags.DEFINE_integer("depth", 1000, "Of --benchmark: photos of each ranking.", lower_bound=1)
flags.DEFINE_string("index", None, "Index to change.")
flags.DEFINE_string("add", None, "Descriptors of photos to add to --index.")
flags.DEFINE_string("delete", None, "Text file of ids to delete from --index, one a line.")


def main() -> None:
    """Does the one job that the flags ask for, and tells what was written."""
    job = _job()
    output = FLAGS.output or FLAGS.index
    with files.atomic_directory(output, marker=COMPARISON if job is _compare else indexes.MARKER) as partial:
        job(partial)
        script.save_flags(main, partial)
    console.say(f"wrote {output}")


def _job():
    """Returns the job, after a look at which flags go together.

    Raises:
        InputError: flags of several jobs, or none of any.
    """
    given = [name for name in ("database", "add", "delete") if FLAGS[name].value]
    if len(given) != 1:
        raise InputError(
            f"{' and '.join(f'--{name}' for name in given) or 'none of --database, --add and --delete'} is given; one "
            "of the three is wanted."
        )
    wants, other = ("index", "output") if given[0] != "database" else ("output", "index")
    if not FLAGS[wants].value:
        raise InputError(f"--{given[0]} is given without --{wants}; both are wanted.")
    if other == "index" and FLAGS.index:
        raise InputError("--index is given with --database; --add=DIR adds photos to an index.")
    if FLAGS.benchmark and not (FLAGS.compare and FLAGS.queries):
        raise InputError("--benchmark is given without --compare and --queries; all three are wanted.")
    return {"database": _compare if FLAGS.compare else _build, "add": _add, "delete": _delete}[given[0]]


def _build(partial: Path) -> None:
    descriptors = Descriptors.load(FLAGS.database)
    options = script.from_flags(IndexOptions)
    with console.stage(f"Building {options.factory} of {len(descriptors):,} photos"):
        made = indexes.build(partial, descriptors, options, _header(), console.progress)
    if made["training"]["few"]:
        console.say(
            f"note: fitted to {made['training']['photos']:,} descriptors for up to {made['training']['fewest']:,} "
            "centres; 39 for each or more place them better."
        )
    if FLAGS.recall_target is not None:
        index = SearchIndex.load(partial)
        point, noted = tune(index, _known(descriptors), FLAGS.recall_target, FLAGS.seed, console.progress)
        indexes.keep_parameters(partial, point.parameters, noted)
        if not noted["reached"]:
            console.say(f"note: no parameters reach recall {FLAGS.recall_target:g}; those that find most were kept.")
        console.say(
            f"recall@{noted['k']} {point.recall:.3f} at {point.queries_per_second:,.0f} queries/s with "
            f"{written(point.parameters) or 'no parameters'}, on {noted['queries']['held_out']} queries held out"
        )
    console.say(f"{made['bytes_per_photo']:g} bytes a photo")


def _compare(partial: Path) -> None:
    judged, descriptors = _judged()
    names = factories(FLAGS.compare, descriptors.vectors.shape[1], len(descriptors))
    target = 0.95 if FLAGS.recall_target is None else FLAGS.recall_target
    options = script.from_flags(IndexOptions)
    result = compare_indexes(names, descriptors, _known(descriptors), target, options, partial, judged)
    files.write_json(partial / COMPARISON, {**_header(), **result})
    files.write_text(partial / "recall.svg", speed_chart(result))
    files.write_text(partial / "bytes.svg", bytes_chart(result))


def _add(partial: Path) -> None:
    descriptors = Descriptors.load(FLAGS.add)
    data = {"descriptors": files.sha256(Path(FLAGS.add) / "vectors.npy")}
    made = indexes.add(Path(FLAGS.index), partial, descriptors, data, console.progress)
    console.say(f"{len(descriptors):,} photos added; {made['photos']:,} in the index")


def _delete(partial: Path) -> None:
    try:
        ids = Path(FLAGS.delete).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--delete={FLAGS.delete} cannot be read ({error}); a text file of ids is wanted.") from error
    made = indexes.delete(Path(FLAGS.index), partial, ids)
    share = made["deleted"] / (made["deleted"] + made["photos"])
    console.say(
        f"{len(ids):,} photos deleted; {made['photos']:,} in the index, whose files hold {share:.1%} deleted ones"
    )


def _judged() -> tuple[Judged | None, Descriptors]:
    """Returns the benchmark, where there is one, and the photos to index: of a benchmark, in its order."""
    if not FLAGS.benchmark:
        return None, Descriptors.load(FLAGS.database)
    benchmark = Benchmark.load(FLAGS.benchmark)
    queries, database = (benchmark.match(FLAGS[side].value, side) for side in ("queries", "database"))
    protocol, relevances = benchmark_conditions(benchmark)
    descriptors = Descriptors(database.vectors, tuple(benchmark.database.ids), database.meta)
    return Judged(queries.vectors, relevances, protocol, FLAGS.depth), descriptors


def _known(descriptors: Descriptors) -> KnownNeighbours:
    k = min(FLAGS.k, len(descriptors))
    if not FLAGS.queries:
        return KnownNeighbours.drawn(descriptors.vectors, k, FLAGS.seed, progress=console.progress)
    queries = np.asarray(Descriptors.load(FLAGS.queries).vectors)
    return KnownNeighbours.of_queries(queries, descriptors.vectors, k, console.progress)


def _header() -> dict:
    data = {"descriptors": files.sha256(Path(FLAGS.database) / "vectors.npy")}
    if FLAGS.queries:
        data["queries"] = files.sha256(Path(FLAGS.queries) / "vectors.npy")
    return provenance.header(script.flag_values(main), FLAGS.seed, data)


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
