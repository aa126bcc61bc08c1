"""The table of every query's own figures, and of their means over instances."""

import html
import math
import urllib.parse
from collections.abc import Mapping

import numpy as np

from tfretrieval.evaluation.album import Photos
from tfretrieval.evaluation.evaluate import Evaluation
from tfretrieval.evaluation.page_parts import MISSING, bar, breakable, cell, sortable

MAX_ROWS = 5000
MAX_INSTANCES = 1000
MAX_COLUMNS = 4
_COUNTS = ("Right photos", "First right at rank")


def query_table(evaluation: Evaluation, queries: Photos, links: Mapping[int, str]) -> str:
    """Returns the table, the worst query first; at most `MAX_ROWS` rows, the worst.

    Args:
        evaluation: the figures.
        queries: the query photos.
        links: addresses of the strips of the queries that have one.
    """
    conditions = evaluation.conditions
    if len(conditions) > MAX_COLUMNS:
        return _table_by_group(evaluation, queries, links)
    several = {name: condition.ap for name, condition in conditions.items()} if len(conditions) > 1 else {}
    columns = [*_heads(queries), *(f"AP {name}".strip() for name in several or ("",)), *_COUNTS]
    rows = np.concatenate([evaluation.worst_first(), np.flatnonzero(np.isnan(evaluation.ap))])[:MAX_ROWS]
    lines = []
    for row in rows.tolist():
        ap = float(evaluation.ap[row])
        cells = "".join(_ap_cell(float(values[row])) for values in several.values())
        counts = int(evaluation.relevant[row]), int(evaluation.first_relevant_rank[row])
        lines.append(_row(queries, row, links, cells or _ap_cell(ap, with_bar=True), ap, counts))
    sorted_by = len(_heads(queries)) + (list(several).index(evaluation.main) if several else 0)
    return sortable(columns, "".join(lines), "queries", sorted_by)


def _table_by_group(evaluation: Evaluation, queries: Photos, links: Mapping[int, str]) -> str:
    """Returns the table of a benchmark with many conditions, each of its own queries: one column tells which."""
    rows = []
    for row in range(evaluation.queries):
        own = (name for name, condition in evaluation.conditions.items() if not math.isnan(condition.ap[row]))
        name = next(own, evaluation.main)
        rows.append((name, evaluation.conditions[name], row))
    rows.sort(key=lambda item: (math.isnan(item[1].ap[item[2]]), item[1].ap[item[2]]))
    lines = []
    for name, condition, row in rows[:MAX_ROWS]:
        ap = float(condition.ap[row])
        cells = f"<td>{html.escape(name)}</td>{_ap_cell(ap, with_bar=True)}"
        counts = int(condition.relevant[row]), int(condition.first_relevant_rank[row])
        lines.append(_row(queries, row, links, cells, ap, counts))
    heads = _heads(queries)
    return sortable((*heads, "Condition", "AP", *_COUNTS), "".join(lines), "queries", len(heads) + 1)


def _heads(queries: Photos) -> tuple[str, ...]:
    """Returns the first headings; what a query shows has a column where it is known."""
    return ("Query", "Shows") if queries.are_named() else ("Query",)


def _row(queries: Photos, row: int, links: Mapping[int, str], cells: str, ap: float, counts: tuple[int, int]) -> str:
    relevant, rank = counts
    kind = "none" if math.isnan(ap) else "right" if rank == 1 else "wrong"
    photo = breakable(queries.ids[row])
    head = f'<a href="{html.escape(links[row])}">{photo}</a>' if row in links else photo
    shows = f"<td>{breakable(', '.join(queries.names(row)))}</td>" if queries.are_named() else ""
    return (
        f'<tr data-kind="{kind}"><th scope="row">{head}</th>{shows}{cells}'
        f"{cell(f'{relevant:,}', float(relevant))}"
        f"{cell(f'{rank:,}' if rank else MISSING, float(rank) if rank else math.nan)}</tr>"
    )


def _ap_cell(ap: float, with_bar: bool = False) -> str:
    if math.isnan(ap):
        return cell(MISSING, ap)
    return f'<td data-value="{ap:.6f}">{bar(ap) if with_bar else ""} {ap:.3f}</td>'


def instance_table(evaluation: Evaluation, queries: Photos, with_strips: set[str]) -> str:
    """Returns a table of mean AP by what queries show, the worst first; a query counts for all that it shows.

    Args:
        evaluation: the figures.
        queries: the query photos.
        with_strips: names that strips of the page can be filtered by.
    """
    rows_of: dict[str, list[int]] = {}
    for row in evaluation.worst_first().tolist():
        for name in queries.names(row):
            rows_of.setdefault(name, []).append(row)
    means = sorted((float(evaluation.ap[rows].mean()), name, rows) for name, rows in rows_of.items())
    lines = []
    for ap, name, rows in means[:MAX_INSTANCES]:
        first = float(np.mean(evaluation.first_relevant_rank[rows] == 1))
        head = _instance_link(name) if name in with_strips else breakable(name)
        lines.append(
            f'<tr><th scope="row">{head}</th>{cell(f"{len(rows):,}", len(rows))}'
            f'<td data-value="{ap:.6f}">{bar(ap)} {ap:.3f}</td>{cell(f"{first:.0%}", first)}</tr>'
        )
    if len(means) > MAX_INSTANCES:
        lines.append(f'<tr><td colspan="4">{len(means) - MAX_INSTANCES:,} better instances are not listed.</td></tr>')
    columns = ("Instance", "Queries", "Mean AP", "First result right")
    return sortable(columns, "".join(lines), "instances", 2) if means else ""


def _instance_link(name: str) -> str:
    return f'<a href="#filter={urllib.parse.quote(name, safe="")}">{breakable(name)}</a>'
