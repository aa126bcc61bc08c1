"""JPEG: size and orientation from the segments before the scan, pixels by TensorFlow's own decoder."""

import tensorflow as tf

from tfretrieval.data.formats import binary, exif

MAGIC = b"\xff\xd8\xff"
# libjpeg scales by these factors while it decodes, at a fraction of the cost of a full decode.
_RATIOS = (8, 4, 2)
# Phones' photos have 5 to 300 (a colour profile or a depth map takes one for each 64 KiB).
_MOST_SEGMENTS = 1000
# Encoders write about ten; each costs a pass over all pixels, and some hundred bytes can ask for one.
_MOST_SCANS = 100
_SCAN, _MOST_PIECES = b"\xff\xda", 8192  # chance makes 1,000 pieces of 64 MiB
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"
_APP1 = 0xE1
_ADOBE_CMYK = b"\xff\xee\x00\x0eAdobe\x00\x64" + b"\0" * 5
# What a byte behind 0xFF makes of the two: no marker, a marker without a length, one with, a frame header, or the end
# of what can be read.
_LOOSE, _ALONE, _SEGMENT, _FRAME, _STOP = range(5)
_KINDS = {
    **dict.fromkeys(range(0x01, 0xC0), _STOP),
    **dict.fromkeys((0x00, 0x01, *range(0xD0, 0xD9)), _ALONE),
    **dict.fromkeys(range(0xC0, 0xD0), _FRAME),
    **dict.fromkeys((0xC4, 0xC8, 0xCC), _SEGMENT),  # tables, and a marker without a use
    **dict.fromkeys((0xD9, 0xDA), _STOP),  # the file's end, and the first scan
    **dict.fromkeys(range(0xDB, 0xFF), _SEGMENT),
    0xFF: _LOOSE,
}


def header(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Reads what stands before a JPEG's frame header, which holds its size.

    Args:
        encoded: string scalar, a file that begins with `MAGIC`.

    Returns:
        Height and width as stored, int64 [2]; the orientation, int32 scalar; and what is wrong with the file, string
        scalar, empty for nothing.
    """
    frame, exif_at, xmp_at = _segments(encoded)
    found = binary.window(encoded, frame, 9)
    size = tf.stack([binary.big(found[5:7]), binary.big(found[7:])])
    progressive = (frame > 0) & tf.reduce_any(found[1] == tf.constant(_PROGRESSIVE, tf.int64))
    scans = tf.cond(progressive, lambda: _count_scans(encoded), lambda: tf.constant(0))

    def content(at: tf.Tensor, mark: bytes) -> tf.Tensor:
        count = binary.big(binary.window(encoded, at + 2, 2)) - 2 - len(mark)
        return tf.where(at > 0, binary.piece(encoded, at + 4 + len(mark), tf.maximum(count, 0)), "")

    orientation = exif.stated_orientation(content(exif_at, exif.EXIF_MARK), content(xmp_at, _XMP_MARK))
    broken = (frame == 0) | (tf.reduce_min(size) == 0)
    cases = [
        (broken, "a JPEG without a frame header that says its size"),
        (scans > _MOST_SCANS, f"a progressive JPEG of more than {_MOST_SCANS} scans"),
    ]
    return size, orientation, binary.first_text(cases)


def _count_scans(encoded: tf.Tensor) -> tf.Tensor:
    """Returns how often a file has what begins a scan: the marker, a length, and as many components as fit; int32."""
    pieces = tf.strings.split(encoded, _SCAN, maxsplit=_MOST_PIECES)[1:]
    heads = tf.cast(tf.io.decode_raw(tf.strings.substr(pieces, 0, 3), tf.uint8, fixed_length=3), tf.int32)
    counts = heads[:, 2]
    scans = (heads[:, 0] == 0) & (heads[:, 1] == 6 + 2 * counts) & (counts >= 1) & (counts <= 4)
    return tf.maximum(tf.reduce_sum(tf.cast(scans, tf.int32)), tf.size(pieces) // _MOST_PIECES * (_MOST_SCANS + 1))


def _segments(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Walks through the segments up to the frame header; bytes that are no marker are stepped over, as Pillow does.

    Returns:
        Where the frame header, the first Exif segment and the last XMP segment begin, int64 scalars; 0 for none.
    """
    end = binary.length(encoded)
    kinds = tf.constant([_KINDS[marker] for marker in range(256)])
    marks = [tf.constant(list(mark), tf.uint8) for mark in (exif.EXIF_MARK, _XMP_MARK)]

    def step(at, frame, exif_at, xmp_at):
        found = tf.io.decode_raw(
            binary.piece(encoded, at, 4 + len(_XMP_MARK)), tf.uint8, fixed_length=4 + len(_XMP_MARK)
        )
        bytes_here = tf.cast(found[:4], tf.int64)
        kind = tf.where(bytes_here[0] == 0xFF, tf.gather(kinds, bytes_here[1]), _LOOSE)
        count = binary.big(bytes_here[2:])
        is_app1 = (kind == _SEGMENT) & (bytes_here[1] == _APP1)
        is_exif, is_xmp = (is_app1 & tf.reduce_all(found[4 : 4 + mark.shape[0]] == mark) for mark in marks)
        by_kind = tf.stack([1, 2, 2 + count, end, end])
        return (
            at + tf.gather(by_kind, kind),
            tf.where(kind == _FRAME, at, frame),
            tf.where(is_exif & (exif_at == 0), at, exif_at),
            tf.where(is_xmp, at, xmp_at),
        )

    none = tf.constant(0, tf.int64)
    start = (tf.constant(2, tf.int64), none, none, none)
    return tf.while_loop(lambda at, *_: at < end, step, start, maximum_iterations=_MOST_SEGMENTS)[1:]


def decode(encoded: tf.Tensor, longer_side: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a JPEG, scaled down by the JPEG library when it is much larger than needed.

    The library's scaling by 2, 4 or 8 is used as long as the result stays at least twice as long as `longer_side`,
    so that the final resize still sees more detail than it keeps.

    Args:
        encoded: string scalar, a JPEG file of any colour space.
        longer_side: length in pixels that the photo's longer side will be resized to.

    Returns:
        The photo, uint8 [h, w, 3], and the full size, int32 [2], which the target size is computed from; as stored.

    Raises:
        tf.errors.InvalidArgumentError: the file is broken.
    """
    shape = tf.io.extract_jpeg_shape(encoded)
    size = shape[:2]
    # Pillow takes all photos of four colours for Adobe's, which are inverted, and TensorFlow those with Adobe's marker.
    # A marker of the file's own comes later, and holds.
    encoded = tf.cond(
        shape[2] == 4,
        lambda: MAGIC[:2] + _ADOBE_CMYK + binary.piece(encoded, 2, binary.length(encoded)),
        lambda: tf.identity(encoded),
    )
    longest = tf.reduce_max(size)

    def at(ratio: int):
        return lambda: tf.io.decode_jpeg(encoded, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")

    cases = [(longest >= 2 * ratio * longer_side, at(ratio)) for ratio in _RATIOS]
    return tf.case(cases, default=at(1)), size
