"""The signature `query`: photos and boxes in, descriptors of what is in the boxes out."""

import tensorflow as tf

from export.sent_photos import DecodedPhotos, PhotoLimits, map_photos, refuse_rows
from tfretrieval.data import decoding, query_crops
from tfretrieval.data.formats import binary

QUERY = "query"
# Whole pixels up to here are exact in float32.
_FARTHEST = 1 << 24


def decode_crops(image_bytes: tf.Tensor, boxes: tf.Tensor, longer_side: int, limits: PhotoLimits) -> DecodedPhotos:
    """Cuts a box out of each photo and resizes the crop as the revisited benchmarks' protocol does.

    The same pixels as `query_crops.cropped_photos` with "scaled" makes of records; see `tfretrieval.data.query_crops`.

    Args:
        image_bytes: string [N].
        boxes: float32 [N, 4], left, top, right, bottom in pixels of the upright photos; rounded to whole pixels, halves
            to the even one.
        longer_side: pixels of whole photos' longer sides.
        limits: what is refused; a crop has at most as many pixels as a photo.

    Raises:
        tf.errors.InvalidArgumentError: a row is not an image, is too large, its data is broken, its box holds no whole
            pixel or too many, or there is not one box for each photo.
    """
    count, given = tf.size(image_bytes), tf.shape(boxes)[0]
    told = tf.strings.format("boxes: {} boxes for {} photos; one for each is wanted", (given, count))
    with tf.control_dependencies([tf.debugging.Assert(count == given, [told])]):
        boxes = tf.identity(boxes)
    windows, refusal = _windows(boxes, limits)
    with tf.control_dependencies([refusal]):
        windows = tf.identity(windows)

    def cut(encoded: tf.Tensor, orientation: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        photo, size = decoding.decode_sent(encoded, orientation, query_crops.NO_LIMIT)
        window = windows[row]
        sides = tf.cast([tf.reduce_max(window[2:] - window[:2]), tf.reduce_max(size)], tf.int64)
        scaled = tf.cast(tf.clip_by_value(longer_side * sides[0] // sides[1], 1, longer_side), tf.int32)
        return query_crops.cut_and_resize(photo, window, scaled), size

    return map_photos(image_bytes, limits, cut)


def _windows(boxes: tf.Tensor, limits: PhotoLimits) -> tuple[tf.Tensor, tf.Operation]:
    """Returns the boxes in whole pixels, int32 [N, 4], and an op that refuses the first that cannot be cut out."""
    near = tf.reduce_all(tf.abs(boxes) <= _FARTHEST, axis=1)  # false for NaN
    windows = tf.cast(tf.round(tf.where(near[:, tf.newaxis], boxes, 0.0)), tf.int32)
    sides = tf.cast(windows[:, 2:] - windows[:, :2], tf.int64)
    cases = [
        (~near, f"a coordinate is no number from {-_FARTHEST} to {_FARTHEST}"),
        (tf.reduce_min(sides, axis=1) < 1, "the box (left, top, right, bottom) holds no whole pixel"),
        (
            tf.reduce_prod(sides, axis=1) > limits.max_pixels,
            f"the box holds more than the {limits.max_pixels} pixels that --max_pixels allows",
        ),
    ]
    return windows, refuse_rows("boxes", binary.first_text(cases))
