"""One query's ranked photos as a strip: what was asked, what came back, and what of it is right."""

import html
from collections.abc import Sequence

import numpy as np

from tfretrieval.evaluation.album import BOXED, CROP, Album, Photos
from tfretrieval.evaluation.evaluate import Evaluation
from tfretrieval.evaluation.object_pictures import ObjectPictures, Picture
from tfretrieval.evaluation.page_parts import breakable
from tfretrieval.evaluation.shown_ranking import ShownRanking

RIGHT, WRONG = "✓", "✗"
_NAMES_SHOWN = 3


def results_list(
    album: Album,
    evaluation: Evaluation | ShownRanking,
    query: int,
    database: Photos,
    objects: ObjectPictures | None = None,
    asked: Sequence[str] = (),
    moves: Sequence[str] = (),
) -> str:
    """Returns the ordered list of a query's first photos, each marked right or wrong.

    Args:
        album: gets the photos.
        evaluation: holds the ranking and what of it is relevant.
        query: the query's row.
        database: the database photos.
        objects: the photos' objects, where they were searched by them.
        asked: what the query shows, in benchmarks where photos show several things; captions name it first.
        moves: how each photo's rank differs from another ranking's, plain text; may be empty.
    """
    items = zip(
        evaluation.top.order[query].tolist(),
        evaluation.top.similarity[query].tolist(),
        evaluation.top_is_relevant[query].tolist(),
        strict=True,
    )
    shown = "".join(
        _result(
            album,
            database,
            rank,
            *item,
            objects.result(query, rank - 1, item[0]) if objects else Picture(),
            asked,
            moves[rank - 1] if moves else "",
        )
        for rank, item in enumerate(items, 1)
    )
    return f'<ol class="results">{shown}</ol>'


def query_figure(album: Album, queries: Photos, query: int, objects: ObjectPictures | None = None) -> str:
    """Returns the query's photo with its caption; where a part of it is searched for, that part and where it lies."""
    label, named = queries.label(query), ", ".join(queries.names(query))
    picture = objects.query(query) if objects else Picture()
    image = album.image(queries, query, f"Query: {label}{picture.alt}", CROP)
    whole = ""
    if queries.box(query):
        alt = "The query's photo; a frame shows the part that is searched for."
        whole = f'<div class="frame whole">{album.image(queries, query, alt, BOXED)}</div>'
    return (
        f'<figure class="query"><div class="{_frame(picture)}">{image}{picture.overlay}</div>{whole}'
        f'<figcaption><span class="badge">Query</span> <span class="instance">{breakable(named)}</span></figcaption>'
        "</figure>"
    )


def query_strip(
    album: Album,
    evaluation: Evaluation,
    query: int,
    queries: Photos,
    database: Photos,
    objects: ObjectPictures | None = None,
) -> str:
    """Returns a whole strip, with the data that the page filters and sorts by.

    Args:
        album: gets the photos.
        evaluation: holds the ranking.
        query: the query's row.
        queries: the query photos.
        database: the database photos.
        objects: the photos' objects, where they were searched by them.
    """
    ap, photo, label = evaluation.ap[query], queries.ids[query], queries.label(query)
    asked = queries.names(query) if database.shows is not None else ()
    numbers = f'<b class="ap">AP {_number(ap)}</b>'
    if len(evaluation.conditions) > 1:
        own = {name: float(condition.ap[query]) for name, condition in evaluation.conditions.items()}
        numbers = "AP " + "".join(
            f'<b class="ap">{html.escape(name)} {_number(value)}</b>'
            for name, value in own.items()
            if not np.isnan(value)
        )
    return (
        f'<article class="strip" id="q{query}" tabindex="-1" data-ap="{ap:.6f}" data-name="{html.escape(photo)}" '
        f'data-instance="{html.escape(label)}">'
        f"<header><h3>{breakable(photo)}</h3><p>{numbers} {_found(evaluation, query)}</p></header>"
        f'<div class="row">{query_figure(album, queries, query, objects)}'
        f"{results_list(album, evaluation, query, database, objects, asked)}</div></article>"
    )


def caption(database: Photos, row: int, asked: Sequence[str] = ()) -> str:
    """Returns what a photo is captioned with: of what it shows, what was asked for first, and then as much as fits."""
    names = database.names(row)
    if not names:
        return database.ids[row]
    matched = [name for name in names if name in asked]
    others = [name for name in names if name not in asked]
    shown = matched if matched else others
    more = len(names) - len(shown[:_NAMES_SHOWN])
    return ", ".join(shown[:_NAMES_SHOWN]) + (f" + {more} more" if more else "")


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _found(evaluation: Evaluation, query: int) -> str:
    rank, count = int(evaluation.first_relevant_rank[query]), int(evaluation.relevant[query])
    where = f"first right photo at rank {rank:,}" if rank else "no right photo in the ranking"
    return f"{where} · {count:,} right in the database"


def _frame(picture: Picture) -> str:
    return "frame boxed" if picture.overlay else "frame"


def _result(
    album: Album,
    database: Photos,
    rank: int,
    row: int,
    similarity: float,
    right: bool,
    picture: Picture,
    asked: Sequence[str],
    move: str,
) -> str:
    label = caption(database, row, asked)
    word, mark, kind = ("right", RIGHT, "right") if right else ("wrong", WRONG, "wrong")
    alt = f"Result {rank}, {word}: {label}{picture.alt}"
    everything = ", ".join(database.names(row)) or database.ids[row]
    moved = f' <span class="move">{html.escape(move)}</span>' if move else ""
    return (
        f'<li class="{kind}"><div class="{_frame(picture)}" title="{html.escape(database.ids[row])}">'
        f"{album.image(database, row, alt)}{picture.overlay}</div>"
        f'<span class="badge" aria-hidden="true">{mark} {rank}</span> '
        f'<span class="similarity">{similarity:.3f}</span>{moved}{picture.caption}'
        f'<span class="instance" title="{html.escape(everything)}">{breakable(label)}</span></li>'
    )
