"""Writes predictions for the Google-Landmarks v2 challenges from descriptors, as pipelines.score_landmarks reads them.

Example: python -m pipelines.predict_landmarks --task=recognition --records=runs/gldv2 --queries=runs/q
--database=runs/train --output=predictions.csv
"""

import csv
from pathlib import Path

from absl import flags

from pipelines import script
from tfretrieval import console
from tfretrieval.data.landmark_files import TASKS
from tfretrieval.data.record_set import RecordSet
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.evaluation.landmarks import DEPTH
from tfretrieval.search.exact import search_top
from tfretrieval.search.voting import vote

FLAGS = flags.FLAGS

flags.DEFINE_enum("task", None, list(TASKS), "Which of the two challenges.", required=True)
flags.DEFINE_string("records", None, "recognition: record set that names the landmarks of the database's photos.")
flags.DEFINE_string("split", "train", "recognition: the split of --records that --database describes.")
flags.DEFINE_string("queries", None, "Descriptors of the test photos, of pipelines.extract.", required=True)
flags.DEFINE_string("database", None, "Descriptors of the train (recognition) or index photos.", required=True)
flags.DEFINE_integer("neighbours", 3, "recognition: nearest photos that vote, by similarity.", lower_bound=1)
flags.DEFINE_string("output", None, "The csv file to write.", required=True)


def recognised(queries: Descriptors, database: Descriptors) -> list[tuple[str, str]]:
    """Returns (test photo, "landmark score") rows."""
    if not FLAGS.records:
        raise InputError("--task=recognition: --records, the record set that --database was extracted from, is wanted.")
    records = RecordSet.load(FLAGS.records)
    split = records.split(FLAGS.split)
    found = Descriptors(database.rows(split.ids, f"the descriptors of --database={FLAGS.database}"), split.ids)
    nearest = search_top(queries.vectors, found.vectors, FLAGS.neighbours, console.progress)
    votes = vote(nearest, split.labels, FLAGS.neighbours)
    winners = zip(queries.ids, votes.labels.tolist(), votes.scores.tolist(), strict=True)
    return [(photo, f"{records.labels[label]} {score:.7g}") for photo, label, score in winners]


def retrieved(queries: Descriptors, database: Descriptors) -> list[tuple[str, str]]:
    """Returns (test photo, "id id ...") rows."""
    nearest = search_top(queries.vectors, database.vectors, DEPTH, console.progress)
    rows = zip(queries.ids, nearest.order.tolist(), strict=True)
    return [(photo, " ".join(database.ids[row] for row in found)) for photo, found in rows]


def main() -> None:
    """Predicts and writes."""
    queries, database = Descriptors.load(FLAGS.queries), Descriptors.load(FLAGS.database)
    rows = (recognised if FLAGS.task == "recognition" else retrieved)(queries, database)
    output = Path(FLAGS.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("id", TASKS[FLAGS.task]), *rows])
    partial.replace(output)
    console.say(f"wrote {output}: predictions of {len(rows)} photos")


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
