"""Pieces of HTML that several pages share."""

import html
import importlib.resources
import json
import math
from collections.abc import Mapping, Sequence

MISSING = "–"


def resource(name: str) -> str:
    """Returns the text of a file of this package: a template, style or script."""
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def breakable(text: str) -> str:
    """Returns a file's or an instance's name as HTML that may break after its slashes, dashes and underscores."""
    for sign in "/_-":
        text = text.replace(sign, f"{sign}\u200b")
    return html.escape(text).replace("\u200b", "<wbr>")


def plural(number: int, noun: str) -> str:
    """Returns "1 query", "2 queries"."""
    several = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else several}"


def percent(value: float) -> str:
    """Returns a share as HTML, a dash where it is not defined."""
    return MISSING if math.isnan(value) else f"{100 * value:.1f}<small> %</small>"


def script_json(value: object) -> str:
    """Returns JSON that may stand in a `script` element: it holds no `<`, so that nothing ends the element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def cell(text: str, value: float | None = None) -> str:
    """Returns a table's cell; `value` is what it is sorted by, and not defined where NaN."""
    if value is None:
        return f"<td>{text}</td>"
    return f'<td data-value="{"" if math.isnan(value) else f"{value:.6f}".rstrip("0").rstrip(".")}">{text}</td>'


def sortable(columns: Sequence[str], body: str, name: str, sorted_by: int, falling: bool = False) -> str:
    """Returns a table whose headings sort it, in a frame that scrolls.

    Args:
        columns: headings, plain text.
        body: its rows.
        name: id of the table; its frame is labelled by the element `NAME-title`.
        sorted_by: the column that it is sorted by.
        falling: whether its largest value stands first.
    """
    order = "descending" if falling else "ascending"
    head = "".join(
        f'<th scope="col"{f" aria-sort={chr(34)}{order}{chr(34)}" if number == sorted_by else ""}>'
        f'<button type="button">{html.escape(column)}</button></th>'
        for number, column in enumerate(columns)
    )
    return (
        f'<div class="scroll tall" role="region" aria-labelledby="{name}-title" tabindex="0">'
        f'<table class="sortable" id="{name}-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def bar(value: float, kind: str = "after") -> str:
    """Returns a bar of a share; NaN has none."""
    width = 0.0 if math.isnan(value) else 100 * min(max(value, 0.0), 1.0)
    return f'<span class="track"><span class="{kind}" style="width:{width:.1f}%"></span></span>'


def header_section(header: Mapping[str, object]) -> str:
    """Returns the HTML of a result file's head."""
    return "".join(
        f"<h3>{html.escape(name.capitalize())}</h3><dl>{_pairs(value)}</dl>"
        for name, value in header.items()
        if isinstance(value, Mapping) and value
    )


def _pairs(values: Mapping[str, object]) -> str:
    return "".join(
        f"<div><dt>{html.escape(str(name))}</dt><dd>"
        f"{html.escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}</dd></div>"
        for name, value in values.items()
    )
