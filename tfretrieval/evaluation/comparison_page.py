"""The page that shows what moved between two runs on one benchmark."""

import dataclasses
import html
import math
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfretrieval import files
from tfretrieval.evaluation import charts, strips
from tfretrieval.evaluation.album import Album, Photos
from tfretrieval.evaluation.benchmark import Benchmark
from tfretrieval.evaluation.page_parts import (
    MISSING,
    breakable,
    cell,
    header_section,
    plural,
    resource,
    script_json,
    sortable,
)
from tfretrieval.evaluation.shown_ranking import ShownRanking

MAX_ROWS = 5000
MAX_DOTS = 3000
_SIDE, _PHOTO_BYTES = 128, 9_000_000
_DIFFERENCES = ((-1.0, "−1"), (-0.5, "−.5"), (0.0, "0"), (0.5, "+.5"), (1.0, "+1"))
_SIGNS = {"better": "▲", "worse": "▼", "same": "="}


@dataclasses.dataclass(frozen=True, eq=False)
class ComparedPhotos:
    """What both runs show, photo by photo.

    Attributes:
        first: the first photos of each query in the first run.
        second: in the second.
        queries: the query photos.
        database: the database photos.
    """

    first: ShownRanking
    second: ShownRanking
    queries: Photos
    database: Photos


def compared_photos(first: str | Path, second: str | Path, benchmark: Benchmark) -> ComparedPhotos:
    """Opens what two results show, from the `top.npz` beside their `metrics.json` and the benchmark's records.

    Args:
        first: the directory of the first result.
        second: of the second.
        benchmark: what both were measured on.

    Raises:
        InputError: a `top.npz` is missing, unreadable, or not of this benchmark.
    """
    rankings = []
    for directory in (first, second):
        ranking = ShownRanking.load(directory)
        ranking.check(len(benchmark.queries), len(benchmark.database), directory)
        rankings.append(ranking)
    photos = [Photos.from_split(split, benchmark.instances) for split in (benchmark.queries, benchmark.database)]
    return ComparedPhotos(*rankings, *photos)


def run_names(first: str | Path, second: str | Path) -> tuple[str, str]:
    """Returns what two results are called on a page: the parts of their directories' paths that differ."""
    parts = [Path(directory).resolve().parts for directory in (first, second)]
    while parts[0] and parts[1] and parts[0][-1] == parts[1][-1]:
        parts = [each[:-1] for each in parts]
    names = tuple(each[-1] if each else "" for each in parts)
    return names if all(names) else (str(first), str(second))


@dataclasses.dataclass(frozen=True)
class ComparisonOptions:
    """What a comparison's page shows beside what was found.

    Attributes:
        names: what the two runs are called.
        notes: sentences that a reader should know.
        header: the result file's head, shown folded at the end.
        photos: what both runs show; strips are left out where not given.
        moved: queries that gained most whose strips are shown, and as many of those that lost most.
    """

    names: tuple[str, str]
    notes: tuple[str, ...] = ()
    header: Mapping[str, object] = dataclasses.field(default_factory=dict)
    photos: ComparedPhotos | None = None
    moved: int = 10


def render_comparison(path: str | Path, found: Mapping, options: ComparisonOptions) -> None:
    """Writes the page; it needs no network, and photos that are too many for it are files beside it.

    Args:
        path: the HTML file, written atomically.
        found: what `two_runs.compare_runs` returns: `condition`, `first`, `second`, `paired` and `per_query`.
        options: names, notes and photos.

    Raises:
        InputError: a photo that the page shows cannot be decoded.
    """
    album = Album(_SIDE, Path(path).parent, _PHOTO_BYTES)
    names = tuple(map(html.escape, options.names))
    rows, moved, anchors = found["per_query"], "", {}
    if options.photos:
        row_of = {photo: row for row, photo in enumerate(options.photos.queries.ids)}
        moved = _moved(album, rows, row_of, options)
        anchors = {row["id"]: f"q{row_of[row['id']]}" for row in _movers(rows, options.moved)}
    page = string.Template(resource("comparison.html")).substitute(
        title=f"{names[0]} and {names[1]}",
        lead=_lead(found["paired"], options.names),
        context=_context(found, options.names),
        tiles=_tiles(found["paired"], options.names),
        conditions=_conditions(found, options.names),
        notes=_notes(options.notes),
        charts=_charts(rows, options.names),
        moved=moved,
        moved_hidden="" if moved else "hidden",
        queries=_table(rows, options.names, anchors),
        queries_said=_table_said(rows),
        header=header_section(options.header),
        css=resource("report.css"),
        script=resource("report.js"),
        photos=script_json(album.sources()),
    )
    files.write_text(path, album.placed(page))


def _lead(paired: Mapping, names: tuple[str, str]) -> str:
    points = 100 * paired["difference"]
    first, second = map(html.escape, names)
    if points == 0:
        return f"{second} finds <b>as much</b> as {first}."
    return f"{second} is <b>{abs(points):.1f} points of mAP {'better' if points > 0 else 'worse'}</b> than {first}."


def _context(found: Mapping, names: tuple[str, str]) -> str:
    paired = found["paired"]
    low, high = (100 * end for end in paired["interval"])
    chance = (
        "Chance alone would seldom make such a difference"
        if paired["p_value"] < 0.05
        else "Chance alone may make such a difference"
    )
    of = "" if found["condition"] == "all" else f", condition {found['condition']}"
    return html.escape(
        f"{plural(paired['queries'], 'query')}{of}. {chance}: p = {paired['p_value']:.3g} (permutation test); the "
        f"{paired['confidence']:.0%} interval of the difference is {low:+.2f} to {high:+.2f} points (bootstrap over "
        "queries)."
    )


def _tiles(paired: Mapping, names: tuple[str, str]) -> str:
    shown = (
        ("mAP", f"{100 * paired['first']:.1f}<small> %</small>", names[0]),
        ("mAP", f"{100 * paired['second']:.1f}<small> %</small>", names[1]),
        ("Better", f"{paired['better']:,}", f"queries whose AP rose; {paired['equal']:,} stayed"),
        ("Worse", f"{paired['worse']:,}", "queries whose AP fell"),
    )
    return "".join(
        f"<div><dt>{title}</dt><dd><b>{value}</b><span>{html.escape(meaning)}</span></dd></div>"
        for title, value, meaning in shown
    )


def _notes(notes: Sequence[str]) -> str:
    lines = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f'<ul class="notes" aria-label="Notes">{lines}</ul>' if lines else ""


def _conditions(found: Mapping, names: tuple[str, str]) -> str:
    """Returns mAP of both runs under every condition, where there are several."""
    first, second = found["first"]["protocols"], found["second"]["protocols"]
    if len(first) < 2:
        return ""
    rows = []
    for name, figures in first.items():
        pair = figures.get("map"), second.get(name, {}).get("map")
        texts = [MISSING if value is None else f"{100 * value:.2f} %" for value in pair]
        texts.append(MISSING if None in pair else f"{100 * (pair[1] - pair[0]):+.2f} points")
        cells = "".join(f"<td>{text}</td>" for text in texts)
        rows.append(
            f'<tr><th scope="row">{html.escape(name)}</th>{cells}<td>{figures.get("queries", MISSING)}</td></tr>'
        )
    head = "".join(
        f'<th scope="col">{html.escape(text)}</th>' for text in ("Condition", *names, "Difference", "Queries")
    )
    return (
        '<div class="scroll" role="region" aria-label="mAP by condition" tabindex="0"><table class="facts conditions">'
        f"<caption>mAP</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _charts(rows: Sequence[Mapping], names: tuple[str, str]) -> str:
    differences = np.array([row["difference"] for row in rows])
    few = [rows[at] for at in _spread(len(rows), MAX_DOTS)]
    dots = [
        (row["first"], row["second"], _kind(row), f"{row['id']}: {row['first']:.3f}, {row['second']:.3f}")
        for row in few
    ]
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    scatter = charts.scatter_chart(
        f"AP in both runs: {better:,} queries lie above the diagonal, {worse:,} below.",
        dots,
        charts.Axis(f"AP, {names[0]}", charts.UNIT_TICKS),
        charts.Axis(f"AP, {names[1]}", charts.UNIT_TICKS),
    )
    falling = np.sort(differences)[::-1][_spread(len(rows), 500)]
    curve = charts.Curve("", np.linspace(0, 1, max(len(falling), 2)), np.resize(falling, max(len(falling), 2)))
    gains = charts.curves_chart(
        f"Differences of AP from {falling[0]:+.2f} to {falling[-1]:+.2f}, median {np.median(differences):+.2f}.",
        [curve],
        charts.Axis("queries, the largest gain first", charts.SHARE_TICKS),
        charts.Axis("difference of AP", _DIFFERENCES),
    )
    drawn = (("AP of each query in both runs", scatter), ("Gains and losses", gains))
    return "".join(f'<figure class="card"><figcaption>{title}</figcaption>{chart}</figure>' for title, chart in drawn)


def _spread(count: int, most: int) -> list[int]:
    """Returns at most `most` of `count` places, evenly."""
    return list(range(count)) if count <= most else np.linspace(0, count - 1, most).round().astype(int).tolist()


def _kind(row: Mapping) -> str:
    return "better" if row["difference"] > 0 else "worse" if row["difference"] < 0 else "same"


def _table(rows: Sequence[Mapping], names: tuple[str, str], anchors: Mapping[str, str]) -> str:
    """Returns every query's figures in both runs, the largest gain first; of very many, those that moved most."""
    lines = []
    for row in _most_moved(rows):
        name = breakable(row["id"])
        head = f'<a href="#{anchors[row["id"]]}">{name}</a>' if row["id"] in anchors else name
        numbers = "".join(cell(f"{row[side]:.3f}", row[side]) for side in ("first", "second"))
        ranks = "".join(
            cell(MISSING, math.nan) if rank is None else cell(f"{rank:,}", rank)
            for rank in (row["first_rank"], row["second_rank"])
        )
        difference = row["difference"]
        lines.append(
            f'<tr data-kind="{_kind(row)}"><th scope="row">{head}</th><td class="{_kind(row)}" '
            f'data-value="{difference:.6f}">{_SIGNS[_kind(row)]} {difference:+.3f}</td>{numbers}{ranks}</tr>'
        )
    columns = ("Query", "Difference", *(f"AP {name}" for name in names), *(f"First right, {name}" for name in names))
    return sortable(columns, "".join(lines), "queries", 1, falling=True)


def _most_moved(rows: Sequence[Mapping]) -> Sequence[Mapping]:
    if len(rows) <= MAX_ROWS:
        return rows
    return [*rows[: MAX_ROWS // 2], *rows[-(MAX_ROWS // 2) :]]


def _table_said(rows: Sequence[Mapping]) -> str:
    which = f"The {MAX_ROWS:,} of {len(rows):,} queries that moved most. " if len(rows) > MAX_ROWS else ""
    return f"{which}A heading sorts the table."


def _movers(rows: Sequence[Mapping], most: int) -> list[Mapping]:
    """Returns the queries that gained most, then those that lost most, the largest loss first."""
    gained = [row for row in rows[:most] if row["difference"] > 0]
    lost = [row for row in rows[::-1][:most] if row["difference"] < 0]
    return gained + lost


def _moved(album: Album, rows: Sequence[Mapping], row_of: Mapping[str, int], options: ComparisonOptions) -> str:
    """Returns a pair of strips for each of the queries that moved most."""
    photos = options.photos
    articles = []
    for row in _movers(rows, options.moved):
        query = row_of[row["id"]]
        asked = photos.queries.names(query) if photos.database.shows is not None else ()
        orders = [ranking.top.order[query].tolist() for ranking in (photos.first, photos.second)]
        moves = _moves(orders[0], orders[1], "now"), _moves(orders[1], orders[0], "was")
        lines = "".join(
            f'<h4>{html.escape(name)} <b class="ap">AP {row[side]:.3f}</b></h4>'
            + strips.results_list(album, ranking, query, photos.database, asked=asked, moves=told)
            for name, side, ranking, told in zip(
                options.names, ("first", "second"), (photos.first, photos.second), moves, strict=True
            )
        )
        articles.append(
            f'<article class="strip pair" id="q{query}" tabindex="-1" data-ap="{row["difference"]:.6f}" '
            f'data-name="{html.escape(row["id"])}" data-instance="{html.escape(photos.queries.label(query))}">'
            f'<header><h3>{breakable(row["id"])}</h3><p><b class="ap {_kind(row)}">{_SIGNS[_kind(row)]} '
            f'{row["difference"]:+.3f}</b></p></header><div class="row">'
            f"{strips.query_figure(album, photos.queries, query)}<div>{lines}</div></div></article>"
        )
    return "".join(articles)


def _moves(order: Sequence[int], other: Sequence[int], word: str) -> list[str]:
    """Returns where each photo of a ranking stands in the other: "was 3", "was >10", nothing where it stayed."""
    place = {photo: rank for rank, photo in enumerate(other, 1)}
    below = f"{word} >{len(other)}"
    return [
        "" if place.get(photo) == rank else f"{word} {place[photo]}" if photo in place else below
        for rank, photo in enumerate(order, 1)
    ]
