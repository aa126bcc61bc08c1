"""Measures how well descriptors find their like on a benchmark, and shows where they fail.

Example: python -m pipelines.evaluate --benchmark=runs/records --queries=runs/q --database=runs/db --output=runs/report

Re-ranked: ... --rerank="aqe:k=50,alpha=3 | diffusion:k=50" --junk=after
"""

import dataclasses
from pathlib import Path

from absl import flags

from pipelines import script
from tfretrieval import console, files
from tfretrieval.errors import InputError
from tfretrieval.evaluation import confusions, results
from tfretrieval.evaluation.album import Photos
from tfretrieval.evaluation.benchmark import Benchmark, MatchedDescriptors, check_pair
from tfretrieval.evaluation.descriptor_map import MAX_POINTS, DescriptorMap, descriptor_map
from tfretrieval.evaluation.evaluate import Evaluation, evaluate_conditions
from tfretrieval.evaluation.guard import EXACT_SEARCH, Ranked, reason_notes
from tfretrieval.evaluation.index_evaluation import benchmark_conditions, evaluate_found, index_ranking
from tfretrieval.evaluation.object_evaluation import evaluate_objects, match_objects, object_header, object_notes
from tfretrieval.evaluation.object_pictures import ObjectPictures
from tfretrieval.evaluation.protocols import AVERAGE_PRECISIONS, Protocol
from tfretrieval.evaluation.relevance import Relevance
from tfretrieval.evaluation.report import MAX_WORST, ReportOptions, render_report
from tfretrieval.evaluation.reranked import AFTER, BEFORE, evaluate_reranked, photo_context
from tfretrieval.evaluation.shown_ranking import ShownRanking
from tfretrieval.search.index import SearchIndex
from tfretrieval.search.object_search import SIMILARITIES, ObjectSearch
from tfretrieval.search.reranking import parse_chain
from tfretrieval.training.run_directory import RunDirectory

FLAGS = flags.FLAGS

flags.DEFINE_string("benchmark", None, "Directory of pipelines.make_records with queries and database.", required=True)
flags.DEFINE_string("queries", None, "Descriptors of the queries, as pipelines.extract writes them.", required=True)
flags.DEFINE_string("database", None, "Descriptors of the database.", required=True)
flags.DEFINE_string("output", None, "Directory to write: metrics.json, index.html, top.npz.", required=True)
flags.DEFINE_string(
    "rerank", None, "Steps of re-ranking, 'method:setting=value,setting=value | method'; docs/reranking.md lists them."
)
flags.DEFINE_enum(
    "junk",
    AFTER,
    [BEFORE, AFTER],
    "Of --rerank: whether junk is taken out before photos are ranked anew, for each condition by itself, or after.",
)
flags.DEFINE_string("index", None, "Index of the database, of pipelines.index, to search rather than exactly.")
flags.DEFINE_integer(
    "index_depth", 1000, "Of --index: photos of each ranking; the others are not found.", lower_bound=1
)
flags.DEFINE_enum(
    "ap",
    None,
    list(AVERAGE_PRECISIONS),
    "Average precision to measure in the place of the protocol's own; numbers are then not comparable with its.",
)
flags.DEFINE_enum(
    "objects",
    None,
    list(SIMILARITIES),
    "Find photos by the objects in them, as pipelines.extract --objects describes them: how sets are compared.",
)
flags.DEFINE_float("objects_weight", 0.5, "Of --objects=fused: the weight of objects beside whole photos, 0 to 1.")
flags.DEFINE_integer(
    "report_queries",
    100,
    "Worst queries shown in index.html; a fifth as many of the best are added. Beyond 250, strips lie in strips/.",
    lower_bound=0,
    upper_bound=MAX_WORST,
)
flags.DEFINE_integer(
    "report_map", 1500, "Photos on the map of descriptors in index.html.", lower_bound=0, upper_bound=MAX_POINTS
)
flags.DEFINE_string(
    "report_model", None, "Run directory whose network explains wrong first results: what positions add to similarity."
)
flags.DEFINE_integer("seed", 0, "Seed of the map.", lower_bound=0)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured: the numbers, those before re-ranking, the result's head, notes, and what pictures need."""

    evaluation: Evaluation
    header: dict
    notes: list[str]
    plain: Evaluation | None = None
    objects: ObjectPictures | None = None
    map: DescriptorMap | None = None


def main() -> None:
    """Evaluates, writes both files and prints the numbers."""
    with files.atomic_directory(FLAGS.output, marker=results.METRICS) as partial:
        benchmark = Benchmark.load(FLAGS.benchmark)
        found = (_by_objects if FLAGS.objects else _by_photos)(benchmark)
        notes = reason_notes(found.header["protocol"]) + found.notes
        made = results.result(found.evaluation, benchmark, found.header, notes, found.plain)
        files.write_json(partial / results.METRICS, made)
        render_report(partial / results.REPORT, found.evaluation, *_photos(benchmark), _shown(benchmark, found))
        ShownRanking(found.evaluation.top, found.evaluation.top_is_relevant).save(partial)
        script.save_flags(main, partial)
    for note in notes:
        console.say(f"note: {note}")
    for title, evaluation in (("before re-ranking", found.plain), ("re-ranked", found.evaluation)):
        if evaluation and found.plain:
            console.say(f"{title}:")
        for line in results.summary_lines(evaluation) if evaluation else ():
            console.say(line)
    console.say(f"wrote {Path(FLAGS.output) / results.REPORT}")


def _shown(benchmark: Benchmark, found: Measured) -> ReportOptions:
    """Returns what the page shows beside the evaluation."""
    explain = None
    if FLAGS.report_model:
        run = RunDirectory.load(FLAGS.report_model)
        explain = confusions.explainer(run.load_model(), run.read_description()["training"]["image_size"])
    return ReportOptions(
        benchmark.name,
        FLAGS.report_queries,
        tuple(found.notes),  # the page tells the other reasons at its top
        found.header,
        objects=found.objects,
        map=found.map,
        explain=explain,
    )


def _by_photos(benchmark: Benchmark) -> Measured:
    protocol, relevances = benchmark_protocol(benchmark)
    chain = parse_chain(FLAGS.rerank) if FLAGS.rerank else None
    queries, database = (benchmark.match(FLAGS[side].value, side) for side in ("queries", "database"))
    notes = check_pair(queries, database)
    vectors = queries.vectors, database.vectors
    if FLAGS.index:
        return _through_index(benchmark, queries, database, relevances, protocol, notes)
    evaluation, plain = evaluate_conditions(*vectors, relevances, protocol, console.progress), None
    if chain:
        plain = evaluation
        photos = photo_context(*_photos(benchmark))
        evaluation = evaluate_reranked(chain, *vectors, relevances, protocol, FLAGS.junk, console.progress, photos)
    ranked = Ranked(FLAGS.ap, str(chain), FLAGS.junk) if chain else Ranked(FLAGS.ap)
    header = _header(benchmark, queries, database, ranked)
    overlap = header["protocol"]["overlap"]
    points = descriptor_map(*vectors, FLAGS.report_map, evaluation.top.order, FLAGS.seed)
    return Measured(evaluation, header, notes + [overlap] * bool(overlap), plain, map=points)


def _through_index(benchmark, queries, database, relevances, protocol, notes) -> Measured:
    if FLAGS.rerank:
        raise InputError(f"--rerank={FLAGS.rerank} is given with --index={FLAGS.index}; one of them is wanted.")
    index = SearchIndex.load(FLAGS.index)
    index.check_vectors(database.sha256, database.meta, f"--index={FLAGS.index}")
    ranking = index_ranking(index, queries.vectors, benchmark.database.ids, FLAGS.index_depth, console.progress)
    evaluation = evaluate_found(ranking, relevances, protocol)
    header = _header(benchmark, queries, database, Ranked(FLAGS.ap, depth=FLAGS.index_depth))
    header["protocol"]["metric"] = f"dot product of L2-normalised descriptors, by the index {index}"
    points = descriptor_map(queries.vectors, database.vectors, FLAGS.report_map, evaluation.top.order, FLAGS.seed)
    searched, overlap = (
        f"Searched by the index {index}, to {FLAGS.index_depth:,} photos.",
        header["protocol"]["overlap"],
    )
    return Measured(evaluation, header, [*notes, searched] + [overlap] * bool(overlap), map=points)


def benchmark_protocol(benchmark: Benchmark) -> tuple[Protocol, dict[str, Relevance]]:
    """Returns the benchmark's protocol, with the average precision of --ap, and what is right under its conditions."""
    protocol, relevances = benchmark_conditions(benchmark)
    return (dataclasses.replace(protocol, ap=FLAGS.ap, ap_at=None) if FLAGS.ap else protocol), relevances


def _by_objects(benchmark: Benchmark) -> Measured:
    for flag in ("rerank", "ap", "index"):
        if FLAGS[flag].value:
            raise InputError(f"--{flag}={FLAGS[flag].value} is given with --objects; one of them is wanted.")
    search = ObjectSearch(FLAGS.objects, FLAGS.objects_weight)
    relevance = benchmark.relevance()
    queries = match_objects(benchmark, FLAGS.queries, "queries")
    database = match_objects(benchmark, FLAGS.database, "database")
    notes = object_notes(queries, database)
    evaluation, matches = evaluate_objects(queries, database, relevance, search)
    header = object_header(_header(benchmark, queries, database, EXACT_SEARCH), queries, database, search)
    sizes = benchmark.queries.sizes, benchmark.database.sizes
    pictures = ObjectPictures(queries.described, database.described, *sizes, matches, search)
    return Measured(evaluation, header, notes, objects=pictures)


def _photos(benchmark: Benchmark) -> list[Photos]:
    return [Photos.from_split(split, benchmark.instances) for split in (benchmark.queries, benchmark.database)]


def _header(benchmark: Benchmark, queries: MatchedDescriptors, database: MatchedDescriptors, ranked: Ranked) -> dict:
    return results.result_header(script.flag_values(main), benchmark, queries, database, ranked)


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
