"""Validation: each held-out photo looks for the others of its instance."""

import dataclasses

from tfretrieval.evaluation.evaluate import Evaluation, leave_one_out
from tfretrieval.extraction import Extractor
from tfretrieval.training.instances import TrainingData


@dataclasses.dataclass(frozen=True)
class Validation:
    """What one validation found.

    Attributes:
        evaluation: mAP, R@1 and per-query AP, leave-one-out.
        worst: strips of (row of the validation split, kind) pairs: the worst queries with their best-ranked photos;
            kind is "query", "match" or "other".
    """

    evaluation: Evaluation
    worst: list[list[tuple[int, str]]]


def validate(data: TrainingData, extractor: Extractor, progress=None, strips: int = 4) -> Validation:
    """Validates the network as it is.

    Args:
        data: names the validation photos.
        extractor: describes them.
        progress: makes a progress bar from a number of photos.
        strips: worst queries wanted.
    """
    rows = data.validation_rows
    evaluation = leave_one_out(extractor(data.validation, rows, progress), data.validation.labels[rows])
    worst = []
    for query in evaluation.worst_first()[:strips]:
        found = zip(evaluation.top.order[query], evaluation.top_is_relevant[query], strict=True)
        strip = [(int(rows[row]), "match" if relevant else "other") for row, relevant in found]
        worst.append([(int(rows[query]), "query"), *strip])
    return Validation(evaluation, worst)
