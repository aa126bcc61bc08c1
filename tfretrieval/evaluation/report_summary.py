"""The top of a report: what was measured, by which protocol, and whether it may be compared with published numbers."""

import html
import json
import math
from collections.abc import Mapping

import numpy as np

from tfretrieval.evaluation.album import Photos
from tfretrieval.evaluation.evaluate import Evaluation
from tfretrieval.evaluation.page_parts import MISSING, percent, plural
from tfretrieval.evaluation.protocols import ALL


def lead(evaluation: Evaluation) -> str:
    """Returns the page's first sentence."""
    measured = evaluation.queries - evaluation.queries_without_relevant
    if not measured:
        return "No photo has anything to find: the database holds none of the queries’ instances."
    first = int(np.sum(evaluation.first_relevant_rank == 1))
    return f"For <b>{first:,} of {measured:,}</b> photos, the first result shows the same thing."


def context(evaluation: Evaluation, queries: Photos) -> str:
    """Returns how much was compared with how much."""
    names = {name for row in range(len(queries.ids)) for name in queries.names(row)}
    of = f" of {plural(len(names), 'instance')}" if names else ""
    return (
        f"{plural(evaluation.queries, 'query photo')}{of}, each compared with "
        f"{plural(evaluation.database, 'database photo')}."
    )


def tiles(evaluation: Evaluation) -> str:
    """Returns the main figures."""
    shown = [("mAP", evaluation.map, "average precision, mean over the queries")]
    for k, value in evaluation.recall_at.items():
        meaning = "the first result is right" if k == 1 else f"a right photo is among the first {k}"
        shown.append((f"R@{k}", value, meaning))
    return "".join(
        f"<div><dt>{metric}</dt><dd><b>{percent(value)}</b><span>{meaning}</span></dd></div>"
        for metric, value, meaning in shown
    )


def notes(evaluation: Evaluation, said: tuple[str, ...]) -> str:
    """Returns what a reader of the numbers should know."""
    without, lines = evaluation.queries_without_relevant, [html.escape(note) for note in said]
    if without:
        of_them = "query has" if without == 1 else "queries have"
        under = "" if evaluation.main == ALL else html.escape(evaluation.main)
        what = f"right photo under {under}" if under else "photo of their instance"
        lines.append(f"{without:,} {of_them} no {what} in the database and are left out of every mean.")
    return f'<ul class="notes" aria-label="Notes">{"".join(f"<li>{line}</li>" for line in lines)}</ul>' if lines else ""


def guard(protocol: Mapping[str, object]) -> str:
    """Returns a warning where the protocol guard found the result not to be comparable; `valid` and `reasons` tell."""
    if protocol.get("valid", True):
        return ""
    reasons = "".join(f"<li>{html.escape(str(reason))}</li>" for reason in protocol.get("reasons", ()))
    return (
        '<div class="guard" role="note"><p><b>Not comparable with published numbers.</b> The literature would call '
        f"this combination invalid:</p><ul>{reasons}</ul></div>"
    )


def protocol_list(protocol: Mapping[str, object]) -> str:
    """Returns the protocol, each setting with its value; nothing where there is none."""
    rows = "".join(
        f"<div><dt>{html.escape(name.replace('_', ' '))}</dt><dd>{html.escape(_said(value))}</dd></div>"
        for name, value in protocol.items()
        if name not in ("valid", "reasons") and value not in (None, "", {}, [])
    )
    return f'<dl class="terms protocol">{rows}</dl>' if rows else ""


def _said(value: object) -> str:
    """Returns a setting in words; equal settings of both sides are told once."""
    if isinstance(value, Mapping):
        told = {json.dumps(one) for one in value.values()}
        if len(told) == 1 and len(value) > 1:
            return _said(next(iter(value.values())))
        return "; ".join(f"{name} {_said(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "not noted"
    return f"{value:g}" if isinstance(value, float) else str(value)


def conditions_table(evaluation: Evaluation) -> str:
    """Returns the figures of each condition, easy, medium and hard say; nothing where there is one only."""
    conditions = evaluation.conditions
    if len(conditions) < 2:
        return ""
    names = [name for name in next(iter(conditions.values())).figures if name != "map"]
    columns = ("Condition", "mAP", *(_titled(name) for name in names), "Queries")
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in columns)
    body = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td><b>{_figure("map", condition.map)}</b></td>'
        + "".join(f"<td>{_figure(figure, condition.figures[figure])}</td>" for figure in names)
        + f"<td>{condition.queries:,}</td></tr>"
        for name, condition in conditions.items()
    )
    return (
        '<div class="scroll" role="region" aria-label="Figures by condition" tabindex="0">'
        '<table class="facts conditions">'
        f"<caption>By condition; all other figures of this page are of {html.escape(evaluation.main)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


_NO_SHARES = ("mean_rank", "ns_score")


def _titled(figure: str) -> str:
    """Returns a figure's heading: "mP@5" of "mp@5", "R@5" of "recall@5", "mean rank" of "mean_rank"."""
    named = {"mp@": "mP@", "recall@": "R@", "map@r": "MAP@R", "ns_score": "N-S score"}
    for key, title in named.items():
        if figure.startswith(key):
            return figure.replace(key, title, 1)
    return figure.replace("_", " ")


def _figure(name: str, value: float) -> str:
    if math.isnan(value):
        return MISSING
    return f"{value:,.2f}" if name in _NO_SHARES else f"{100 * value:.2f} %"


def ap_definition(protocol: Mapping[str, object]) -> str:
    """Returns what AP is here, as the result's head names it."""
    name = str(protocol.get("ap", "rectangular"))
    if name.startswith("trapezoidal"):
        return (
            "Average precision by trapezoids: the area under the precision-recall curve drawn with straight lines, "
            "over all right photos in the database. AP by rectangles gives higher values."
        )
    if "@" in name:
        return (
            f"Average precision, {html.escape(name)}: the sum of the precision at the right photos among the first "
            "ones, over the most right photos that these can hold."
        )
    return (
        "Average precision by rectangles: the mean, over all right photos in the database, of the precision at their "
        "rank. Benchmarks that use trapezoids give lower values."
    )
