"""Compares two results of one benchmark query by query: what the second gained, and whether that may be chance.

Example: python -m pipelines.compare runs/report_a runs/report_b --output=runs/comparison

With the photos of what moved: ... --benchmark=runs/records
"""

from pathlib import Path

from absl import flags

from pipelines import script
from tfretrieval import console, files, provenance
from tfretrieval.errors import InputError
from tfretrieval.evaluation import results
from tfretrieval.evaluation.album import Photos
from tfretrieval.evaluation.benchmark import Benchmark
from tfretrieval.evaluation.comparison import COMPARISON
from tfretrieval.evaluation.comparison_page import ComparedPhotos, ComparisonOptions, render_comparison
from tfretrieval.evaluation.shown_ranking import ShownRanking
from tfretrieval.evaluation.two_runs import MeasuredRun, check_comparable, compare_runs, comparison_lines

FLAGS = flags.FLAGS

flags.DEFINE_string("condition", None, "Which condition's AP: easy, medium, hard; the main one by default.")
flags.DEFINE_integer("seed", 0, "Of the bootstrap interval and the permutation test.")
flags.DEFINE_list("names", ["first", "second"], "What the two are called.")
flags.DEFINE_string("benchmark", None, "The benchmark's directory; with it the page shows the photos of what moved.")
flags.DEFINE_string("output", "runs/comparison", "Directory to write: comparison.json and index.html.")


def main(first: str, second: str) -> None:
    """Compares, writes and prints what was found."""
    if len(FLAGS.names) != 2:
        raise InputError(f"--names={','.join(FLAGS.names)}; two names joined by a comma are wanted.")
    runs = MeasuredRun.load(first), MeasuredRun.load(second)
    notes = check_comparable(*runs)
    found = compare_runs(*runs, FLAGS.condition, FLAGS.seed)
    data = {side: found[side]["sha256"] for side in ("first", "second")}
    header = provenance.header(script.flag_values(main), FLAGS.seed, data, runs[0].content["protocol"])
    photos = compared_photos(*runs) if FLAGS.benchmark else None
    with files.atomic_directory(FLAGS.output, marker=COMPARISON) as partial:
        files.write_json(partial / COMPARISON, {**header, "notes": notes, **found})
        options = ComparisonOptions(tuple(FLAGS.names), tuple(notes), header, photos)
        render_comparison(partial / results.REPORT, found, options)
        script.save_flags(main, partial)
    for note in notes:
        console.say(f"note: {note}")
    for line in comparison_lines(found):
        console.say(line)
    console.say(f"wrote {Path(FLAGS.output) / results.REPORT}")


def compared_photos(first: MeasuredRun, second: MeasuredRun) -> ComparedPhotos:
    """Returns what both runs show, with the photos of --benchmark."""
    benchmark = Benchmark.load(FLAGS.benchmark)
    if list(benchmark.queries.ids) != first.ids():
        raise InputError(f"--benchmark={FLAGS.benchmark} has other queries than {first.path}; its own is wanted.")
    shown = []
    for run in (first, second):
        shown.append(ShownRanking.load(run.path.parent))
        shown[-1].check(len(benchmark.queries), len(benchmark.database), run.path.parent)
    splits = benchmark.queries, benchmark.database
    return ComparedPhotos(*shown, *(Photos.from_split(split, benchmark.instances) for split in splits))


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main, takes=("A", "B"))


if __name__ == "__main__":
    run()
