"""Validation: each held-out photo looks for the others of its instance."""

import dataclasses

import numpy as np

from tfretrieval.evaluation.evaluate import Evaluation, leave_one_out
from tfretrieval.extraction import Extractor
from tfretrieval.training.instances import TrainingData


@dataclasses.dataclass(frozen=True)
class Validation:
    """What one validation found.

    Attributes:
        evaluation: mAP, R@1 and per-query AP, leave-one-out.
        worst: strips of (row of the validation split, kind) pairs: the worst queries with their best-ranked photos.
    """

    evaluation: Evaluation
    worst: list[list[tuple[int, str]]]


def validate(data: TrainingData, extractor: Extractor, progress=None, strips: int = 4, shown: int = 6) -> Validation:
    """Validates the network as it is.

    Args:
        data: names the validation photos.
        extractor: describes them.
        progress: makes a progress bar from a number of photos.
        strips: worst queries wanted.
        shown: best-ranked photos in each strip.
    """
    rows, labels = data.validation_rows, data.validation.labels[data.validation_rows]
    vectors = extractor(data.validation, rows, progress)
    evaluation = leave_one_out(vectors, labels)
    worst = []
    for query in np.argsort(np.where(np.isnan(evaluation.ap), np.inf, evaluation.ap), kind="stable")[:strips]:
        similarity = vectors @ vectors[query]
        similarity[query] = -np.inf
        found = np.argsort(-similarity, kind="stable")[:shown]
        kinds = ["match" if labels[row] == labels[query] else "other" for row in found]
        worst.append([(int(rows[query]), "query"), *zip(rows[found].tolist(), kinds, strict=True)])
    width = min(map(len, worst), default=0)
    return Validation(evaluation, [strip[:width] for strip in worst])
