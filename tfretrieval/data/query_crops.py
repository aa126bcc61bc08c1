"""Queries as their benchmark wants them described: cut to their box, then resized as their whole photo would be.

The rule is that of the revisited benchmarks' own tools: `PIL.Image.crop`, which rounds the box to whole pixels and
fills what is outside of the photo with black, and then a limit for the crop's longer side that is the limit for photos
times the crop's longer side over the whole photo's, so that the crop shows its object at the size it has in the photo.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfretrieval.data import decoding, records
from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.data.photo_store import PhotoRows, decoded_sizes, encoded_reader
from tfretrieval.data.record_set import Split
from tfretrieval.errors import InputError

SCALED, UNSCALED, WHOLE = "scaled", "unscaled", "none"
QUERY_CROPS = (SCALED, UNSCALED, WHOLE)
_MOST_PIXELS = 100_000_000
NO_LIMIT = 1 << 24  # pixels; photos are decoded at their full size, as crops of them are cut in full size


def pixel_window(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """Rounds a box (x1, y1, x2, y2) to whole pixels, halves to the even one, as `PIL.Image.crop` does.

    Raises:
        ValueError: it holds no pixel, or more than 100 million.
    """
    left, top, right, bottom = map(round, box)
    if right <= left or bottom <= top:
        raise ValueError(f"the box {tuple(box)} holds no whole pixel")
    if (right - left) * (bottom - top) > _MOST_PIXELS:
        raise ValueError(f"the box {tuple(box)} holds more than {_MOST_PIXELS} pixels")
    return left, top, right, bottom


def crop_limit(window: tuple[int, int, int, int], size: tuple[int, int], image_size: int, query_crop: str) -> int:
    """Returns the most pixels that a crop's longer side has when it is described.

    Args:
        window: the crop, see `pixel_window`.
        size: height and width of the whole photo.
        image_size: the limit for whole photos.
        query_crop: "scaled": image_size * longer side of the crop / longer side of the photo, rounded down, at least 1
            and, for windows larger than their photo, no more than `image_size`; "unscaled": `image_size`.
    """
    if query_crop == UNSCALED:
        return image_size
    crop = max(window[2] - window[0], window[3] - window[1])
    return min(image_size, max(1, image_size * crop // max(size)))


def has_boxes(split: Split) -> bool:
    """Returns whether photos of the split are queries with a box."""
    return any(judgement.box for judgement in split.judgements or ())


def cropped_photos(split: Split, image_size: int, query_crop: str) -> PhotoRows:
    """Returns the photos of a split, and in the place of queries with a box what is in it.

    Args:
        split: the split.
        image_size: pixels of whole photos' longer sides.
        query_crop: one of `QUERY_CROPS`.

    Returns:
        The photos and crops by row; queries without a box are whole.

    Raises:
        InputError: a box holds no pixel, or far too many.
    """
    if query_crop == WHOLE or not has_boxes(split):
        return PhotoRows.of(split, image_size)
    windows = [_window(split, row, judgement) for row, judgement in enumerate(split.judgements)]
    cropped = np.array([window is not None for window in windows])
    limits = np.array([_limit(split, row, window, image_size, query_crop) for row, window in enumerate(windows)])
    windows = np.array([window or (0, 0, 1, 1) for window in windows], np.int32)
    sizes = np.where(
        cropped[:, None], np.stack([windows[:, 3] - windows[:, 1], windows[:, 2] - windows[:, 0]], axis=1), split.sizes
    )
    read, is_cropped = encoded_reader(split), tf.constant(cropped)
    places, most = tf.constant(windows), tf.constant(limits, tf.int32)

    def photo(row: tf.Tensor) -> tf.Tensor:
        encoded = read(row)
        whole = lambda: decoding.decode_photo(encoded, image_size)  # noqa: E731
        crop = lambda: _cut_and_resize(encoded, places[row], most[row])  # noqa: E731
        return tf.ensure_shape(tf.cond(is_cropped[row], crop, whole), [None, None, 3])

    return PhotoRows(decoded_sizes(sizes, limits), photo)


def encoded_crops(split: Split, image_size: int | None, query_crop: str) -> Iterator[bytes]:
    """Yields the photos of a split encoded, in order: the records' own bytes, and for queries with a box a PNG.

    A PNG has the crop in the size that it is described in, so that a model that resizes photos to at most `image_size`
    leaves it as it is.

    Args:
        split: the split.
        image_size: pixels of whole photos' longer sides; None where it is not known.
        query_crop: one of `QUERY_CROPS`.

    Raises:
        InputError: a box holds no pixel or far too many, or crops are to be scaled and `image_size` is not known.
    """
    cropped = query_crop != WHOLE and has_boxes(split)
    if cropped and image_size is None and query_crop == SCALED:
        raise InputError(
            f"--query_crop={SCALED} needs the model's image size, and the model does not tell it; "
            f"--query_crop={UNSCALED} or {WHOLE} is wanted."
        )
    for row in range(len(split)):
        encoded = records.decode_record(split.read(row)).photo.encoded
        window = _window(split, row, split.judgements[row]) if cropped else None
        if window is None:
            yield encoded
        else:
            limit = _limit(split, row, window, image_size or NO_LIMIT, query_crop)
            yield tf.io.encode_png(_cut_and_resize(tf.constant(encoded), tf.constant(window), limit)).numpy()


def _window(split: Split, row: int, judgement: QueryJudgement) -> tuple[int, int, int, int] | None:
    try:
        return pixel_window(judgement.box) if judgement.box else None
    except ValueError as error:
        raise InputError(f"the query {split.ids[row]!r} cannot be cut out: {error}; make the records again.") from None


def _limit(split: Split, row: int, window: tuple | None, image_size: int, query_crop: str) -> int:
    size = tuple(split.sizes[row].tolist())
    return crop_limit(window, size, image_size, query_crop) if window else image_size


def _cut_and_resize(encoded: tf.Tensor, window: tf.Tensor, limit: tf.Tensor | int) -> tf.Tensor:
    """Decodes a photo in full, cuts a window (left, top, right, bottom) out of it and resizes that."""
    return cut_and_resize(decoding.decode_photo(encoded, NO_LIMIT), window, limit)


def cut_and_resize(photo: tf.Tensor, window: tf.Tensor, limit: tf.Tensor | int) -> tf.Tensor:
    """Cuts a window out of a photo and resizes the crop; what is outside of the photo is black.

    Args:
        photo: uint8 [H, W, 3].
        window: int32 [4], left, top, right, bottom in pixels; it holds a pixel at least.
        limit: most pixels of the crop's longer side; see `crop_limit`.

    Returns:
        uint8 [h, w, 3].
    """
    first, last = tf.stack([window[1], window[0]]), tf.stack([window[3], window[2]])
    size = tf.shape(photo)[:2]
    inside_first, inside_last = tf.clip_by_value(first, 0, size), tf.clip_by_value(last, 0, size)
    crop = photo[inside_first[0] : inside_last[0], inside_first[1] : inside_last[1]]
    before = tf.maximum(0, tf.minimum(inside_first, last) - first)
    after = last - first - before - tf.shape(crop)[:2]
    crop = tf.pad(crop, tf.concat([tf.stack([before, after], axis=1), tf.zeros([1, 2], tf.int32)], axis=0))
    return decoding.resize_photo(crop, decoding.target_size(tf.shape(crop)[:2], limit))
