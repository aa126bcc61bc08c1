"""Scores csv predictions of the Google-Landmarks v2 challenges: GAP of recognition, mAP@100 of retrieval.

Example: python -m pipelines.score_landmarks --task=retrieval --solution=retrieval_solution_v2.1.csv
--predictions=predictions.csv --output=runs/landmarks.json
"""

from pathlib import Path

from absl import flags

from pipelines import script
from tfretrieval import console, files, provenance
from tfretrieval.data.landmark_files import TASKS, read_solution
from tfretrieval.evaluation.landmarks import DEPTH, read_predictions, score

FLAGS = flags.FLAGS

flags.DEFINE_enum("task", None, list(TASKS), "Which of the two challenges.", required=True)
flags.DEFINE_string(
    "solution",
    None,
    "recognition_solution_v2.1.csv or retrieval_solution_v2.1.csv, from https://github.com/cvdfoundation/google-landmark.",
    required=True,
)
flags.DEFINE_string(
    "predictions",
    None,
    "csv with the columns id and landmarks ('27 0.93'), or id and images (best first).",
    required=True,
)
flags.DEFINE_string("output", None, "The JSON file to write.", required=True)

_SHOWN = {"recognition": ("gap", "gap_landmarks_only", "top1_accuracy"), "retrieval": (f"map@{DEPTH}",)}
_PROTOCOLS = {
    "recognition": {"name": "landmarks_recognition", "gap": "rectangular, over photos with a landmark"},
    "retrieval": {"name": "landmarks_retrieval", "ap": f"rectangular, over min(relevant, {DEPTH})", "depth": DEPTH},
}


def main() -> None:
    """Scores, writes and prints the figures."""
    solution = read_solution(FLAGS.solution, FLAGS.task)
    scored = score(read_predictions(FLAGS.predictions, solution, FLAGS.task), solution, FLAGS.task)
    data = {"solution": files.sha256(FLAGS.solution), "predictions": files.sha256(FLAGS.predictions)}
    header = provenance.header(script.flag_values(main), None, data, _PROTOCOLS[FLAGS.task])
    Path(FLAGS.output).parent.mkdir(parents=True, exist_ok=True)
    files.write_json(FLAGS.output, {**header, "ignored": len(solution.ignored), "scores": scored})
    for part, figures in scored.items():
        told = ", ".join(f"{name} {_text(figures[name])}" for name in _SHOWN[FLAGS.task])
        console.say(f"{part}: {told} ({figures['predictions']} of {figures['photos']} photos answered)")
    console.say(f"wrote {FLAGS.output}")


def _text(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
