"""The charts of a report."""

import math

import numpy as np

from tfretrieval.evaluation import charts, metrics
from tfretrieval.evaluation.evaluate import Evaluation

_SHARE = charts.Axis("share of queries", charts.SHARE_TICKS)


def report_charts(evaluation: Evaluation) -> str:
    """Returns the figures: recall at k, precision over recall (also of each condition), and AP of the queries."""
    if math.isnan(evaluation.map):
        return ""
    drawn = [
        ("Right photo among the first k", _recall(evaluation)),
        ("Precision while finding them all", _precision(evaluation)),
        ("Queries by average precision", _histogram(evaluation)),
    ]
    by_condition = _precision_by_condition(evaluation)
    if by_condition:
        drawn.insert(2, ("Precision by condition", by_condition))
    return "".join(f'<figure class="card"><figcaption>{title}</figcaption>{chart}</figure>' for title, chart in drawn)


def _recall(evaluation: Evaluation) -> str:
    recall = evaluation.recall_curve()
    ks = list(range(1, len(recall) + 1))
    at = ", ".join(f"{recall[k - 1]:.1%} at {k}" for k in (1, 5, 10) if k <= len(recall))
    return charts.line_chart(
        f"R@k rises from {recall[0]:.1%} to {recall[-1]:.1%} at k = {ks[-1]}: {at}.",
        ks,
        recall,
        charts.Axis("k, photos looked at", charts.count_ticks(ks[-1]), logarithmic=True),
        _SHARE,
        marked=(1, 5, 10),
    )


def _axes() -> tuple[charts.Axis, charts.Axis]:
    across = charts.Axis("recall, share of the right photos found", charts.SHARE_TICKS)
    return across, charts.Axis("precision", charts.SHARE_TICKS)


def _precision(evaluation: Evaluation) -> str:
    middle = evaluation.precision_at_shares[len(metrics.SHARES) // 2]
    said = f"Mean precision is {middle:.1%} where half of the right photos are found."
    return charts.line_chart(said, metrics.SHARES, evaluation.precision_at_shares, *_axes())


def _precision_by_condition(evaluation: Evaluation) -> str:
    """Returns the curves of the conditions, where there are several; of many, the first."""
    known = [
        charts.Curve(name, metrics.SHARES, condition.precision_at_shares)
        for name, condition in evaluation.conditions.items()
        if not math.isnan(condition.map)
    ][: charts.CURVES]
    if len(known) < 2:
        return ""
    middle = len(metrics.SHARES) // 2
    said = ", ".join(f"{curve.name} {curve.y[middle]:.1%}" for curve in known)
    return charts.curves_chart(f"Mean precision where half of the right photos are found: {said}.", known, *_axes())


def _histogram(evaluation: Evaluation) -> str:
    ap = evaluation.ap[~np.isnan(evaluation.ap)]
    said = f"Average precision of {len(ap)} queries, median {np.median(ap):.2f}."
    return charts.histogram(said, ap, "average precision (AP)", "queries")
