"""The scores of the Google-Landmarks v2 challenges, from csv files of predictions and the solution.

Weyand, Araujo, Cao, Sim, "Google Landmarks Dataset v2", CVPR 2020, section 5, and the official program
(tensorflow/models, research/delf/delf/python/datasets/google_landmarks_dataset/metrics.py), with whose values these are
equal. Where it stops with an error, on a photo without a right answer or a set without one, there is a value here: 0,
or NaN where nothing could be found.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfretrieval.data.landmark_files import TASKS, Solution, split_answers
from tfretrieval.data.listed_photos import read_csv_rows
from tfretrieval.errors import InputError

DEPTH = 100
Truths = Mapping[str, Sequence[str]]
Recognised = Mapping[str, tuple[str, float]]
Retrieved = Mapping[str, Sequence[str]]


def read_predictions(file: str | Path, solution: Solution, task: str) -> dict[str, tuple]:
    """Reads predictions: columns id and landmarks ("27 0.93", a landmark and its score) or images (ids, best first).

    Rows of photos that the solution ignores, and rows without a prediction, are left out; these count as unanswered.

    Args:
        file: the csv file.
        solution: the task's solution.
        task: a key of `TASKS`.

    Returns:
        By test photo: (landmark, score), or ids of index photos.

    Raises:
        InputError: it cannot be read, a photo has a second row, or is not in the solution, or a row is at fault; file,
            line and field are named.
    """
    file, answer = Path(file), TASKS[task]
    found: dict[str, tuple] = {}
    lines: dict[str, int] = {}
    for line, (photo, text) in read_csv_rows(file, ("id", answer), f"predictions of {task}"):
        where = f"{file} line {line}"
        if photo in lines:
            raise InputError(f"{where}: id is {photo!r}, as on line {lines[photo]}; one prediction for each is wanted.")
        if photo in solution.ignored or not text.strip(" "):
            continue
        if photo not in solution.truths:
            raise InputError(f"{where}: id is {photo!r}, which the solution does not have; its test photos are wanted.")
        lines[photo] = line
        read = _landmark if task == "recognition" else _images
        found[photo] = read(f"{where}: {answer}", text)
    return found


def global_average_precision(predictions: Recognised, truths: Truths, landmarks_only: bool = False) -> float:
    """Returns GAP, also called micro-AP: one ranking of all predictions by their scores.

    GAP = sum over i of P(i) rel(i) / M, where the i-th of all predictions, by falling score, is right or wrong (rel),
    P(i) is the share of right ones among the first i, and M is the number of photos that show a landmark. Ties are
    ranked by the photo's id. A prediction for a photo without a landmark is wrong and stays in the ranking.

    Args:
        predictions: by photo: (landmark, score); photos may lack one.
        truths: by photo: its landmarks, none or more.
        landmarks_only: leave out photos without a landmark, a further figure of the official program.

    Returns:
        GAP in [0, 1]; NaN where no photo has a landmark.

    Raises:
        InputError: a prediction is for a photo that `truths` lacks.
    """
    _check_known(predictions, truths)
    total, right, ranked = 0.0, 0, 0
    for photo in sorted(predictions, key=lambda photo: (-predictions[photo][1], photo)):
        if landmarks_only and not truths[photo]:
            continue
        ranked += 1
        if predictions[photo][0] in truths[photo]:
            right += 1
            total += right / ranked
    return _share(total, sum(map(bool, truths.values())))


def top1_accuracy(predictions: Recognised, truths: Truths) -> float:
    """Returns the share of the photos with a landmark for which a right one is predicted; NaN where there are none."""
    _check_known(predictions, truths)
    right = sum(landmark in truths[photo] for photo, (landmark, _) in predictions.items())
    return _share(right, sum(map(bool, truths.values())))


def average_precision(ranked: Sequence[str], right: Sequence[str], depth: int = DEPTH) -> float:
    """Returns AP@k = sum over i <= k of P(i) rel(i) / min(R, k), for R right photos.

    A photo that stands in the list again is wrong there, and takes its place. 0 where no photo is right.
    """
    hits = _hits(ranked, right, depth)
    precisions = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precisions[hits].sum() / min(len(right), depth)) if len(right) else 0.0


def mean_average_precision(predictions: Retrieved, truths: Truths, depth: int = DEPTH) -> float:
    """Returns mAP@k: the mean of `average_precision` over all photos of `truths`, 0 for those without a prediction.

    Raises:
        InputError: a prediction is for a photo that `truths` lacks.
    """
    _check_known(predictions, truths)
    return _share(
        sum(average_precision(ranked, truths[photo], depth) for photo, ranked in predictions.items()), len(truths)
    )


def mean_precisions(predictions: Retrieved, truths: Truths, depth: int = DEPTH) -> np.ndarray:
    """Returns float64 [k]: the mean over all photos of `truths` of the precision after 1, 2, ... k places.

    Places past the end of a list count as wrong. A photo that stands in it again is wrong there.

    Raises:
        InputError: a prediction is for a photo that `truths` lacks.
    """
    _check_known(predictions, truths)
    total = np.zeros(depth)
    for photo, ranked in predictions.items():
        hits = _hits(ranked, truths[photo], depth)
        total += np.cumsum(np.pad(hits, (0, depth - len(hits)))) / np.arange(1, depth + 1)
    return total / len(truths) if truths else np.full(depth, math.nan)


def first_positions(predictions: Retrieved, truths: Truths, depth: int = DEPTH) -> list[int]:
    """Returns, for each photo of `truths`, the place from 1 of the first right prediction; k + 1 where there is none.

    Raises:
        InputError: a prediction is for a photo that `truths` lacks.
    """
    _check_known(predictions, truths)
    positions = []
    for photo, right in truths.items():
        hits = np.flatnonzero(_hits(predictions.get(photo, ()), right, depth))
        positions.append(int(hits[0]) + 1 if len(hits) else depth + 1)
    return positions


def score(predictions: Mapping[str, tuple], solution: Solution, task: str) -> dict[str, dict]:
    """Returns all figures of a task for the parts of the solution, "public" and "private", and for "all" of it.

    Args:
        predictions: what `read_predictions` returns.
        solution: the task's solution.
        task: a key of `TASKS`.

    Returns:
        Plain values by part and name, None where one is not defined. Recognition: `gap`, `gap_landmarks_only`,
        `top1_accuracy`. Retrieval: `map@100`, `mean_precision` (its values after 1 to 100 places),
        `mean_first_position` and `median_first_position`. Both: `photos` and `predictions`, how many there are, and of
        recognition `photos_with_landmark`.
    """
    parts = [part for part in ("public", "private") if part in solution.usages.values()]
    scored = {}
    for part in (*parts, "all"):
        truths = {photo: truth for photo, truth in solution.truths.items() if part in ("all", solution.usages[photo])}
        kept = {photo: predictions[photo] for photo in truths if photo in predictions}
        figures = (_recognition if task == "recognition" else _retrieval)(kept, truths)
        scored[part] = {"photos": len(truths), "predictions": len(kept), **figures}
    return scored


def _recognition(predictions: Recognised, truths: Truths) -> dict:
    return {
        "photos_with_landmark": sum(map(bool, truths.values())),
        "gap": _defined(global_average_precision(predictions, truths)),
        "gap_landmarks_only": _defined(global_average_precision(predictions, truths, landmarks_only=True)),
        "top1_accuracy": _defined(top1_accuracy(predictions, truths)),
    }


def _retrieval(predictions: Retrieved, truths: Truths) -> dict:
    positions = first_positions(predictions, truths)
    return {
        f"map@{DEPTH}": mean_average_precision(predictions, truths),
        "mean_precision": mean_precisions(predictions, truths).tolist(),
        "mean_first_position": statistics.fmean(positions),
        "median_first_position": float(statistics.median(positions)),
    }


def _landmark(where: str, text: str) -> tuple[str, float]:
    words = text.removesuffix(" ").split(" ")
    try:
        landmark, value = words[0], float(words[1])
    except (IndexError, ValueError):
        landmark, value = "", math.nan
    if len(words) != 2 or not math.isfinite(value):
        raise InputError(f"{where} is {ascii(text)[:60]}; a landmark and its score, as '27 0.93', are wanted.")
    return split_answers(where, landmark, "recognition")[0], value


def _images(where: str, text: str) -> tuple[str, ...]:
    return tuple(split_answers(where, text, "retrieval"))


def _hits(ranked: Sequence[str], right: Sequence[str], depth: int) -> np.ndarray:
    """Returns bool [n]: whether each of the first places is right, and for the first time."""
    left = set(right)
    hits = np.zeros(min(len(ranked), depth), bool)
    for place in range(len(hits)):
        hits[place] = ranked[place] in left
        left.discard(ranked[place])
    return hits


def _check_known(predictions: Mapping[str, object], truths: Truths) -> None:
    unknown = next((photo for photo in predictions if photo not in truths), None)
    if unknown is not None:
        raise InputError(
            f"a prediction is for {unknown!r}, which the solution does not have; its test photos are wanted."
        )


def _share(part: float, whole: int) -> float:
    return part / whole if whole else math.nan


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
