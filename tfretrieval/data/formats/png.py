"""PNG: size, orientation and transparency from the chunks, pixels by TensorFlow's own decoder."""

import tensorflow as tf

from tfretrieval.data.formats import binary, exif

MAGIC = b"\x89PNG\r\n\x1a\n"
# 80 MB in libpng's own chunks of 8 KiB.
_MOST_CHUNKS = 10_000
_XMP_MARK = b"XML:com.adobe.xmp\0"
_COLOURS_WITH_ALPHA = (b"\4", b"\6")


def header(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Reads a PNG's size and the orientation of its last eXIf chunk, or else of its uncompressed XMP.

    Args:
        encoded: string scalar, a file that begins with `MAGIC`.

    Returns:
        Height and width as stored, int64 [2]; the orientation, int32 scalar; and what is wrong with the file, string
        scalar, empty for nothing.
    """
    found = binary.window(encoded, 8, 16)
    size = tf.stack([binary.big(found[12:16]), binary.big(found[8:12])])
    exif_at, xmp_at = _chunks(encoded)

    def content(at: tf.Tensor, skipped: int) -> tf.Tensor:
        count = binary.big(binary.window(encoded, at, 4)) - skipped
        return tf.where(at > 0, binary.piece(encoded, at + 8 + skipped, tf.maximum(count, 0)), "")

    orientation = exif.stated_orientation(content(exif_at, 0), content(xmp_at, len(_XMP_MARK)))
    broken = ~binary.is_text(found[4:], b"IHDR") | (tf.reduce_min(size) == 0)
    return size, orientation, binary.first_text([(broken, "a PNG without a header that says its size")])


def _chunks(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where the last chunks eXIf and iTXt with uncompressed XMP begin, int64 scalars; 0 for none."""
    end = binary.length(encoded)

    def step(at, exif_at, xmp_at):
        found = binary.window(encoded, at, 9 + len(_XMP_MARK))
        kind, content = found[4:8], found[8:]
        is_exif = binary.is_text(kind, b"eXIf")
        is_xmp = binary.is_text(kind, b"iTXt") & binary.is_text(content, _XMP_MARK) & (content[-1] == 0)
        after = tf.where(binary.is_text(kind, b"IEND"), end, at + 12 + binary.big(found[:4]))
        return after, tf.where(is_exif, at, exif_at), tf.where(is_xmp, at, xmp_at)

    none = tf.constant(0, tf.int64)
    start = (tf.constant(8, tf.int64), none, none)
    return tf.while_loop(lambda at, *_: at < end, step, start, maximum_iterations=_MOST_CHUNKS)[1:]


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a PNG of any kind; transparency is laid on white, and of 16 bits the upper 8 are taken.

    Args:
        encoded: string scalar, a file that begins with `MAGIC`; TensorFlow's decoder would take other formats too.

    Returns:
        The photo as stored, uint8 [h, w, 3].

    Raises:
        tf.errors.InvalidArgumentError: the file is broken.
    """
    # Transparency outside of an alpha channel is in a chunk before the pixels. Where other bytes there read like its
    # name, an opaque photo is laid on white, which changes nothing.
    colours = tf.strings.substr(encoded + b"\0" * 26, 25, 1)
    before = tf.strings.split(encoded, "IDAT", maxsplit=1)[0]
    has_alpha = tf.reduce_any(colours == _COLOURS_WITH_ALPHA) | tf.strings.regex_full_match(before, r"\C*tRNS\C*")
    return tf.cond(
        has_alpha,
        lambda: on_white(tf.io.decode_png(encoded, channels=4)),
        lambda: tf.io.decode_png(encoded, channels=3),
    )


def on_white(rgba: tf.Tensor) -> tf.Tensor:
    """Lays a photo with alpha, uint8 [h, w, 4], on white, rounded to the nearest level: uint8 [h, w, 3]."""
    # 255 * 255 + 127 still fits into 16 bits, half the memory of 32.
    wide = tf.cast(rgba, tf.uint16)
    colour, alpha = wide[..., :3], wide[..., 3:]
    return tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)
