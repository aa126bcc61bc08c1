"""The section of a report that shows why wrong photos come first."""

import html
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tfretrieval.evaluation import heat
from tfretrieval.evaluation.album import Album, Photos, cropped, decoded
from tfretrieval.evaluation.confusions import MATCH_SIDE, Confusion, Explain, Matches, match_places
from tfretrieval.evaluation.page_parts import breakable, plural
from tfretrieval.evaluation.strips import caption

_LINES = 60
_SAID = {
    "same": "Many places of both photos agree on one motion: they share a pattern, a label, print or building say, or "
    "the ground truth lacks this pair.",
    "some": "Some places look alike, but no one motion joins them: texture or lettering of the same kind.",
    "none": "Hardly any place looks alike: the two are near by overall colour and shape.",
}


def confusion_articles(
    album: Album, found: Sequence[Confusion], queries: Photos, database: Photos, explain: Explain | None = None
) -> str:
    """Returns an article for each confusion whose photos are at hand.

    Args:
        album: gets the photos; its thumbnails are large.
        found: what to show.
        queries: the query photos.
        database: the database photos.
        explain: what positions contribute to the similarity of two photos; drawn where given.

    Raises:
        InputError: a photo cannot be decoded.
    """
    return "".join(_article(album, confusion, queries, database, explain) for confusion in found)


def _article(album: Album, confusion: Confusion, queries: Photos, database: Photos, explain: Explain | None) -> str:
    pixels = [_pixels(queries, confusion.query), _pixels(database, confusion.wrong)]
    if any(each is None for each in pixels):
        return ""
    small = [_fitted(each) for each in pixels]
    matches = match_places(*small)
    names = queries.label(confusion.query), caption(database, confusion.wrong, queries.names(confusion.query))
    images = "".join(
        f'<div class="side" style="flex:{photo.shape[1] / photo.shape[0]:.4f} 1 0">{album.picture(photo, alt)}</div>'
        for photo, alt in zip(small, (f"Query: {names[0]}", f"Wrong first result: {names[1]}"), strict=True)
    )
    heats = _heat(album, pixels, explain) if explain else ""
    asked = breakable(", ".join(queries.names(confusion.query)))
    return (
        f'<article class="confusion card"><h3>{breakable(queries.ids[confusion.query])}</h3>'
        f'<p class="names"><span>{asked}</span> <span class="wrong"><span class="badge">✗</span> '
        f"{breakable(names[1])}</span></p>"
        f'<div class="twins">{images}{_lines(matches, small)}</div>{heats}'
        f"<p>{_numbers(confusion)} {_told(matches)}</p></article>"
    )


def _pixels(photos: Photos, row: int) -> np.ndarray | None:
    encoded = photos.read(row)
    if encoded is None:
        return None
    return np.asarray(cropped(decoded(encoded, photos.ids[row]), photos.box(row)))


def _fitted(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels)
    image.thumbnail((MATCH_SIDE, MATCH_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _numbers(confusion: Confusion) -> str:
    if confusion.right is not None:
        right = f"the first right photo follows at rank {confusion.right_rank:,} with {confusion.right_similarity:.3f}."
    elif confusion.right_rank:
        right = f"the first right photo stands at rank {confusion.right_rank:,}."
    else:
        right = "the ranking holds no right photo."
    return f"Similarity {confusion.similarity:.3f}; {right}"


def _told(matches: Matches) -> str:
    agreeing, others = int(matches.agree.sum()), int((~matches.agree).sum())
    kind = "same" if agreeing else "some" if others >= 15 else "none"
    return f"{plural(agreeing + others, 'place')} match, {agreeing:,} of them by one motion. {_SAID[kind]}"


def _lines(matches: Matches, photos: Sequence[np.ndarray]) -> str:
    """Returns SVG over two photos of equal height side by side: lines where one motion agrees, else dots."""
    widths = [100 * photo.shape[1] / photo.shape[0] for photo in photos]
    agreeing = np.flatnonzero(matches.agree)
    drawn = []
    for number in agreeing[:: max(1, -(-len(agreeing) // _LINES))].tolist():
        (x, y), (u, v) = matches.first[number], matches.second[number]
        x, u = x * widths[0], widths[0] + u * widths[1]
        drawn.append(f'<path d="M{x:.1f} {100 * y:.1f}L{u:.1f} {100 * v:.1f}"/>')
        drawn.append(
            f'<circle cx="{x:.1f}" cy="{100 * y:.1f}" r="1.2"/><circle cx="{u:.1f}" cy="{100 * v:.1f}" r="1.2"/>'
        )
    if not len(agreeing):
        for (x, y), (u, v) in list(zip(matches.first.tolist(), matches.second.tolist(), strict=True))[:_LINES]:
            x, u = x * widths[0], widths[0] + u * widths[1]
            drawn.append(f'<path class="loose" d="M{x:.1f} {100 * y:.1f}L{u:.1f} {100 * v:.1f}"/>')
            drawn.append(
                f'<circle class="loose" cx="{x:.1f}" cy="{100 * y:.1f}" r="1"/>'
                f'<circle class="loose" cx="{u:.1f}" cy="{100 * v:.1f}" r="1"/>'
            )
    return (
        f'<svg class="matches" viewBox="0 0 {sum(widths):.1f} 100" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(drawn)}</svg>"
    )


def _heat(album: Album, pixels: Sequence[np.ndarray], explain: Explain) -> str:
    """Returns both photos under the colours of what their positions contribute to the similarity."""
    found = [explain(*pixels), explain(*pixels[::-1])]
    values = [heat.densities(each) for each in found]
    limit = max(float(np.abs(value).max()) for value in values) or 1.0
    sides = "".join(
        f'<div class="side" style="flex:{photo.shape[1] / photo.shape[0]:.4f} 1 0">'
        f"{album.picture(heat.overlay(_fitted(photo), value, limit), alt)}</div>"
        for photo, value, alt in zip(pixels, values, ("The query's positions", "The wrong photo's"), strict=True)
    )
    return (
        f'<div class="twins">{sides}</div><p class="small">Yellow to dark red: what the network’s positions add to the '
        "similarity; blue: what speaks against it.</p>"
    )


def intro(explained: bool) -> str:
    """Returns the paragraph above the articles."""
    looked = " Below them, what the network’s own positions add to the similarity." if explained else ""
    return html.escape(
        "Wrong photos that stand first, the most similar to their query first, one of each kind. Lines and dots join "
        "places that look alike to SIFT features, which the network does not use: they tell what two photos share, not "
        f"what it looked at.{looked}"
    )
