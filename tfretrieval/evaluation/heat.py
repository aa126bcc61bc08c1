"""Pictures of contributions: photos, and beside them the same photos under the colours of what each position adds."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf

from tfretrieval.data import decoding, photos
from tfretrieval.data.write_records import DEFAULT_MAX_PIXELS
from tfretrieval.errors import InputError
from tfretrieval.evaluation.contributions import Contributions, contributions

_SIDE, _GAP, _BAR = 420, 24, 18
_INK, _GREY, _PAPER = (30, 30, 30), (110, 110, 110), 255
# From nothing to the most, for what speaks for the similarity and what speaks against it; RGB.
_FOR = ((255, 237, 160), (254, 178, 76), (240, 59, 32), (128, 0, 38))
_AGAINST = ((198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))
_NOTE = "Colour: a position's contribution times the number of positions. Its mean over a photo is the similarity."


@dataclasses.dataclass(frozen=True)
class Panel:
    """One photo of the picture.

    Attributes:
        name: its caption.
        photo: uint8 [H, W, 3], RGB.
        found: what its positions contribute.
    """

    name: str
    photo: np.ndarray
    found: Contributions


def read_photo(path: str | Path, longer_side: int) -> np.ndarray:
    """Reads a photo as records and the network get it: upright, RGB, of the size that the network describes.

    Args:
        path: a file of any format that records take.
        longer_side: pixels; see `decoding.decode_photo`.

    Returns:
        uint8 [H, W, 3].

    Raises:
        InputError: the file is missing or is not a whole image.
    """
    try:
        prepared = photos.prepare_photo(Path(path).read_bytes(), DEFAULT_MAX_PIXELS)
        return decoding.decode_photo(tf.constant(prepared.encoded), longer_side).numpy()
    except (OSError, photos.PhotoError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} cannot be read as a photo: {reason}; an image file is wanted.") from error


def look(model: keras.Model, image_size: int, paths: Sequence[str | Path]) -> np.ndarray:
    """Draws where a network looks when it compares two photos, or a photo with itself.

    Args:
        model: see `contributions`.
        image_size: longer side in pixels that photos are described at.
        paths: of one photo or two.

    Returns:
        The picture, uint8 [H, W, 3], RGB.

    Raises:
        InputError: a photo that cannot be read, or a network that cannot be looked through.
    """
    seen = [read_photo(path, image_size) for path in paths]
    found = [contributions(model, photo, other) for photo, other in zip(seen, seen[::-1], strict=True)]
    return draw([Panel(Path(path).name, *both) for path, *both in zip(paths, seen, found, strict=True)])


def densities(found: Contributions) -> np.ndarray:
    """Returns the contributions times the number of positions, float [h, w]: their mean is the similarity."""
    return found.positions * found.positions.size


def overlay(photo: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """Lays colours over a greyed photo: yellow to dark red for values above 0, light to dark blue below.

    Args:
        photo: uint8 [H, W, 3], RGB.
        values: float [h, w], stretched over the photo.
        limit: > 0, the size of value that gets the strongest colour.

    Returns:
        uint8 [H, W, 3].
    """
    height, width = photo.shape[:2]
    smooth = cv2.resize(values.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None] * 0.75 + 60.0
    return _coloured(np.repeat(grey, 3, axis=2), smooth / limit)


def _coloured(under: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Lays the colours of shares [H, W] in [-1, 1] over float pixels [H, W, 3]; 0 is clear."""
    strength = np.clip(np.abs(share), 0.0, 1.0)
    stops = np.linspace(0, 1, len(_FOR))
    kinds = [
        np.stack([np.interp(strength, stops, [stop[band] for stop in stops_of]) for band in range(3)], axis=-1)
        for stops_of in (_FOR, _AGAINST)
    ]
    colour = np.where(share[..., None] >= 0, *kinds)
    cover = 0.9 * np.sqrt(strength)[..., None]
    return np.rint(cover * colour + (1 - cover) * under).clip(0, 255).astype(np.uint8)


def draw(panels: Sequence[Panel]) -> np.ndarray:
    """Draws one photo beside its colours, or two photos above theirs, with a legend and the similarity.

    Args:
        panels: one or two; their similarity is the same.

    Returns:
        uint8 [H, W, 3], RGB.
    """
    values = [densities(panel.found) for panel in panels]
    limit = max(float(np.abs(value).max()) for value in values) or 1.0
    lowest = min(0.0, *(float(value.min()) for value in values))
    plain = [_fitted(panel.photo) for panel in panels]
    heats = [overlay(photo, value, limit) for photo, value in zip(plain, values, strict=True)]
    rows = [plain, heats] if len(panels) > 1 else [[plain[0], heats[0]]]
    column = max(photo.shape[1] for photo in plain)
    body = np.concatenate([_beside(row, column) for row in rows])
    canvas = np.full((body.shape[0] + 130, max(body.shape[1] + 150, 760), 3), _PAPER, np.uint8)
    canvas[64 : 64 + body.shape[0], : body.shape[1]] = body
    _write(canvas, f"similarity {panels[0].found.similarity:.3f}", (_GAP, 40), 26, weight=700)
    bottom = 64 + body.shape[0]
    for number, panel in enumerate(panels):
        _write(canvas, _shortened(panel.name, column), (_GAP + number * (column + _GAP), bottom + 2), 15)
    _write(canvas, _NOTE, (_GAP, bottom + 38), 14, _GREY)
    if any(panel.found.constant for panel in panels):
        _write(canvas, "The whitening's bias is spread evenly.", (_GAP, bottom + 58), 14, _GREY)
    _legend(canvas, body.shape[1] + 4, 64, body.shape[0] - _GAP, (lowest, limit), panels[0].found.similarity)
    return canvas


def write_png(path: str | Path, picture: np.ndarray) -> None:
    """Writes RGB pixels, uint8 [H, W, 3], as a PNG file.

    Raises:
        InputError: the file cannot be written.
    """
    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    try:
        Path(path).write_bytes(encoded.tobytes())
    except OSError as error:
        raise InputError(f"--output={path} cannot be written: {error.strerror}; a PNG file is wanted.") from error


def _fitted(photo: np.ndarray) -> np.ndarray:
    """Returns the photo with its longer side at the panels' size."""
    scale = _SIDE / max(photo.shape[:2])
    size = [max(1, round(side * scale)) for side in (photo.shape[1], photo.shape[0])]
    return cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _beside(pictures: Sequence[np.ndarray], column: int) -> np.ndarray:
    """Puts pictures side by side in columns of one width, with gaps to the left and below."""
    height = max(picture.shape[0] for picture in pictures)
    row = np.full((height + _GAP, len(pictures) * (column + _GAP) + _GAP, 3), _PAPER, np.uint8)
    for number, picture in enumerate(pictures):
        left = _GAP + number * (column + _GAP)
        row[: picture.shape[0], left : left + picture.shape[1]] = picture
    return row


def _legend(canvas: np.ndarray, left: int, top: int, height: int, ends: tuple[float, float], similarity: float) -> None:
    """Draws a bar of the colours with the ends of the scale, 0 and the mean."""
    lowest, highest = ends
    values = np.linspace(highest, lowest, height)
    bar = np.repeat((values / highest)[:, None], _BAR, axis=1)
    canvas[top : top + height, left : left + _BAR] = _coloured(np.full((height, _BAR, 3), 150.0), bar)
    written = []
    for value, text in ((highest, ""), (lowest, ""), (similarity, " mean"), (0.0, "")):
        place = round(top + (highest - value) / (highest - lowest) * (height - 1))
        if lowest <= value <= highest and all(abs(place - other) > 18 for other in written):
            written.append(place)
            cv2.line(canvas, (left + _BAR, place), (left + _BAR + 5, place), _INK, 1)
            _write(canvas, f"{value:.2f}{text}", (left + _BAR + 10, place + 5), 15)


_FONT = cv2.FontFace("sans")


def _write(canvas: np.ndarray, text: str, place: tuple[int, int], size: int, colour=_INK, weight: int = 400) -> None:
    cv2.putText(canvas, text, place, colour, _FONT, size, weight)


def _shortened(text: str, width: int) -> str:
    """Cuts the middle out of a text that is wider than some pixels at the captions' size."""
    short, kept = text, len(text)
    while kept > 2 and cv2.getTextSize((1, 1), short, (0, 0), _FONT, 15, 400)[2] > width:
        kept -= 2
        short = f"{text[: kept // 2]}…{text[-(kept // 2) :]}"
    return short
