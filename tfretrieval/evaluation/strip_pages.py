"""Further pages of strips, in files beside the report, for queries that it has no room for."""

import html
import string
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfretrieval import files
from tfretrieval.evaluation.album import FOLDER, Album
from tfretrieval.evaluation.page_parts import resource

STRIPS_A_PAGE = 100


def write_strip_pages(
    report: Path, title: str, rows: np.ndarray, album: Album, strip: Callable[[int], str], css: str
) -> dict[int, str]:
    """Writes pages of `STRIPS_A_PAGE` strips each, plain HTML whose photos are files.

    Args:
        report: the report's file; the pages lie in the folder of its thumbnails.
        title: the report's title.
        rows: the queries, in order.
        album: holds the photos, in files.
        strip: returns a query's strip.
        css: the pages' style.

    Returns:
        For each query the address of its strip, seen from the report.
    """
    links: dict[int, str] = {}
    pages = -(-len(rows) // STRIPS_A_PAGE)
    names = [f"{report.stem}-{number}.html" for number in range(1, pages + 1)]
    for number, name in enumerate(names):
        part = rows[number * STRIPS_A_PAGE : (number + 1) * STRIPS_A_PAGE].tolist()
        body = album.placed("".join(map(strip, part)), folder="")
        first = number * STRIPS_A_PAGE + 1
        text = string.Template(resource("strips.html")).substitute(
            title=html.escape(title),
            said=f"Further queries, the worst first: {first:,} to {first + len(part) - 1:,} of {len(rows):,}.",
            report=html.escape(f"../{report.name}", quote=True),
            others=_others(names, number),
            strips=body,
            css=css,
        )
        files.write_text(report.parent / FOLDER / name, text)
        links |= {row: f"{FOLDER}/{name}#q{row}" for row in part}
    return links


def _others(names: list[str], number: int) -> str:
    """Returns links to the pages before and after."""
    links = []
    if number:
        links.append(f'<a rel="prev" href="{html.escape(names[number - 1])}">Previous page</a>')
    if number + 1 < len(names):
        links.append(f'<a rel="next" href="{html.escape(names[number + 1])}">Next page</a>')
    return "".join(links)
