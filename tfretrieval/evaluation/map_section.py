"""The section of a report that shows the map of descriptors."""

import html
from collections.abc import Mapping

from tfretrieval.evaluation.album import CROP, Album, Photos
from tfretrieval.evaluation.descriptor_map import DescriptorMap
from tfretrieval.evaluation.evaluate import Evaluation
from tfretrieval.evaluation.page_parts import plural, script_json
from tfretrieval.evaluation.strips import caption

_SIZE, _MARGIN = 1000, 20
_SIGNS = {
    "database photo": '<circle class="d" cx="10" cy="10" r="5"/>',
    "query, first result right": '<circle class="r" cx="10" cy="10" r="7"/>',
    "query, first result wrong": '<path class="w" d="M4 4l12 12M16 4l-12 12"/>',
}
_KEY = "".join(
    f'<span><svg class="sign" viewBox="0 0 20 20" aria-hidden="true">{sign}</svg>{text}</span>'
    for text, sign in _SIGNS.items()
)


def map_section(
    album: Album,
    made: DescriptorMap,
    evaluation: Evaluation,
    queries: Photos,
    database: Photos,
    links: Mapping[int, str],
) -> str:
    """Returns the section: points that show their photo, and which of them lie where.

    Database photos are grey; queries green where the first result is right and red crosses where it is wrong. The
    page's script shows photos on hover and by arrow keys, and marks the photos of the same name.

    Args:
        album: gets the photos; its thumbnails are small, and its keys stand in the section's data.
        made: the map.
        evaluation: tells which queries found the right photo first.
        queries: the query photos.
        database: the database photos.
        links: addresses of the strips of the queries that have one.
    """
    points, names = [], []
    numbers: dict[str, int] = {}
    for row, (x, y) in zip(made.database_rows.tolist(), made.database_points.tolist(), strict=True):
        text = caption(database, row)
        points.append(["", *_place(x, y), numbers.setdefault(text, len(numbers)), album.key(database, row)])
        names.append(database.ids[row])
    for row, (x, y) in zip(made.query_rows.tolist(), made.query_points.tolist(), strict=True):
        text = caption(queries, row)
        kind = {True: "r", False: "w"}[int(evaluation.first_relevant_rank[row]) == 1]
        kind = kind if evaluation.relevant[row] else "n"
        points.append([kind, *_place(x, y), numbers.setdefault(text, len(numbers)), album.key(queries, row, CROP)])
        names.append(queries.ids[row])
    marks = "".join(_mark(*point[:3]) for point in points)
    data = {
        "points": [[point[3], point[4]] for point in points],
        "names": list(numbers),
        "ids": names,
        "queries": [links.get(row, "") for row in made.query_rows.tolist()],
    }
    right = sum(point[0] == "r" for point in points)
    wrong = sum(point[0] == "w" for point in points)
    told = (
        f"Map of {plural(len(made.database_rows), 'database photo')} and {plural(len(made.query_rows), 'query')}: "
        f"{right} whose first result is right, {wrong} whose first result is wrong."
    )
    return (
        '<section id="map" aria-labelledby="map-title"><h2 id="map-title">Map of the descriptors</h2>'
        f"<p>{html.escape(_said(made))}</p>"
        f'<p class="key">{_KEY}</p>'
        '<div class="map card"><div class="plane" id="plane" tabindex="0" role="application" '
        f'aria-roledescription="map" aria-label="{html.escape(told)} Arrow keys go from photo to photo, Enter to a '
        'query’s strip." aria-describedby="map-said">'
        f'<svg viewBox="0 0 {_SIZE + 2 * _MARGIN} {_SIZE + 2 * _MARGIN}" aria-hidden="true">{marks}</svg>'
        '<div class="pointed" id="pointed" hidden></div></div>'
        '<p class="small" id="map-said" aria-live="polite">Point at a photo, or press an arrow key here.</p></div>'
        f'<script type="application/json" id="map-data">{script_json(data)}</script></section>'
    )


def _said(made: DescriptorMap) -> str:
    counts = len(made.query_rows), len(made.database_rows)
    of = (
        "All photos"
        if counts == made.counts
        else (f"{counts[0]:,} of {made.counts[0]:,} queries and {counts[1]:,} of {made.counts[1]:,} database photos")
    )
    return (
        f"{of}, near each other where their descriptors are. Neighbourhoods mean something; lengths, areas and the "
        f"distances of groups do not. {made.method}"
    )


def _place(x: float, y: float) -> tuple[float, float]:
    return round(_MARGIN + x * _SIZE, 1), round(_MARGIN + (1 - y) * _SIZE, 1)


def _mark(kind: str, x: float, y: float) -> str:
    if kind == "w":
        return f'<path class="w" d="M{x - 6:g} {y - 6:g}l12 12m0-12l-12 12"/>'
    return f'<circle class="{kind or "d"}" cx="{x:g}" cy="{y:g}" r="{5 if kind else 4}"/>'
