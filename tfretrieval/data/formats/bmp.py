"""BMP: pixels of 1, 4, 8, 24 and 32 bits without compression, read in TensorFlow ops.

TensorFlow's own decoder shows palettes as grey and refuses files with bytes behind their pixels.
Source: the headers BITMAPCOREHEADER to BITMAPV5HEADER of Windows GDI.
"""

import dataclasses

import tensorflow as tf

from tfretrieval.data.formats import binary, exif
from tfretrieval.data.formats.png import on_white

MAGIC = b"BM"
_OLD_HEADER = 12
_HEADERS = (_OLD_HEADER, 40, 52, 56, 64, 108, 124)
_PALETTES, _DIRECT = (1, 4, 8), (24, 32)
_RAW, _BIT_FIELDS = 0, 3
_MASKS = b"\0\0\xff\0\0\xff\0\0\xff\0\0\0"  # of red, green and blue in pixels of blue, green, red, alpha
_ALPHA_MASK = b"\0\0\0\xff"


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How a BMP stores its pixels; int64 and bool scalars.

    Attributes:
        length: bytes of the header after the first 14.
        size: height and width, int64 [2].
        down: whether the first row is the top one.
        bits: of a pixel.
        compression: its number.
        first: where the pixels begin.
    """

    length: tf.Tensor
    size: tf.Tensor
    down: tf.Tensor
    bits: tf.Tensor
    compression: tf.Tensor
    first: tf.Tensor

    @property
    def row(self) -> tf.Tensor:
        """Bytes of a row."""
        return (self.size[1] * self.bits + 31) // 32 * 4

    @property
    def direct(self) -> tf.Tensor:
        """Whether pixels are colours, and not places in a palette."""
        return tf.reduce_any(self.bits == tf.constant(_DIRECT, tf.int64))


def header(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Reads a BMP's header.

    Args:
        encoded: string scalar, a file that begins with `MAGIC`.

    Returns:
        Height and width, int64 [2]; the orientation 1, which BMP does not state, int32 scalar; and what is wrong with
        the file, string scalar, empty for nothing.
    """
    layout = _layout(encoded)
    return layout.size, tf.constant(exif.UPRIGHT), _problem(encoded, layout)


def _layout(encoded: tf.Tensor) -> _Layout:
    found = binary.window(encoded, 10, 24)
    length = binary.little(found[4:8])
    old = length == _OLD_HEADER

    def either(of_old: tuple[int, int], of_others: tuple[int, int]) -> tf.Tensor:
        return tf.where(old, binary.little(found[slice(*of_old)]), binary.little(found[slice(*of_others)]))

    width, height = either((8, 10), (8, 12)), either((10, 12), (12, 16))
    down = height >= 1 << 31
    return _Layout(
        length=length,
        size=tf.stack([tf.where(down, (1 << 32) - height, height), width]),
        down=down,
        bits=either((14, 16), (18, 20)),
        compression=tf.where(old, tf.constant(_RAW, tf.int64), binary.little(found[20:24])),
        first=binary.little(found[:4]),
    )


def _problem(encoded: tf.Tensor, layout: _Layout) -> tf.Tensor:
    known = tf.reduce_any(layout.length == tf.constant(_HEADERS, tf.int64))
    sized = (tf.reduce_min(layout.size) > 0) & (layout.size[1] < 1 << 31)
    indexed = tf.reduce_any(layout.bits == tf.constant(_PALETTES, tf.int64))
    usual, _ = _masks(encoded, layout)
    readable = tf.where(layout.compression == _RAW, layout.direct | indexed, usual & layout.direct)
    kind = tf.strings.format("a BMP of {} bits a pixel and compression {}", (layout.bits, layout.compression))
    cut = binary.length(encoded) < layout.first + layout.row * layout.size[0]
    return binary.first_text(
        [
            (~(known & sized), "a BMP without a header that says its size"),
            (~readable, kind + ", which is not read; 1, 4, 8, 24 or 32 bits, uncompressed, are"),
            (cut, "a BMP that ends before its pixels do"),
        ]
    )


def _masks(encoded: tf.Tensor, layout: _Layout) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns whether its bit masks are those of blue, green, red, and whether alpha follows; bool scalars."""
    masks = binary.window(encoded, 54, 16)
    states_alpha = layout.length >= 56
    with_alpha = states_alpha & binary.is_text(masks[12:], _ALPHA_MASK) & (layout.bits == 32)
    usual = (layout.compression == _BIT_FIELDS) & binary.is_text(masks, _MASKS)
    return usual & (with_alpha | ~states_alpha | tf.reduce_all(masks[12:] == 0)), usual & with_alpha


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a BMP; pixels of 32 bits with an alpha mask are laid on white.

    Args:
        encoded: string scalar.

    Returns:
        The photo, uint8 [h, w, 3].

    Raises:
        tf.errors.InvalidArgumentError: the file is cut short, compressed, of 16 bits, or has other bit masks than those
            of blue, green, red, alpha.
    """
    layout = _layout(encoded)
    with tf.control_dependencies([binary.refuse(_problem(encoded, layout))]):
        raw = binary.piece(encoded, layout.first, layout.row * layout.size[0])
    rows = tf.reshape(tf.io.decode_raw(raw, tf.uint8), tf.stack([layout.size[0], layout.row]))
    _, with_alpha = _masks(encoded, layout)
    photo = tf.cond(
        layout.direct,
        lambda: _direct_colours(rows, layout, with_alpha),
        lambda: _palette_colours(rows, layout, encoded),
    )
    return tf.cond(layout.down, lambda: photo, lambda: tf.reverse(photo, [0]))


def _direct_colours(rows: tf.Tensor, layout: _Layout, with_alpha: tf.Tensor) -> tf.Tensor:
    """Returns the colours, uint8 [h, w, 3], of rows of pixels of 3 or 4 bytes."""
    count = layout.bits // 8
    pixels = tf.reshape(rows[:, : layout.size[1] * count], tf.concat([layout.size, [count]], axis=0))
    colours = tf.reverse(pixels[..., :3], [-1])
    return tf.cond(with_alpha, lambda: on_white(tf.concat([colours, pixels[..., 3:]], axis=-1)), lambda: colours)


def _palette_colours(rows: tf.Tensor, layout: _Layout, encoded: tf.Tensor) -> tf.Tensor:
    """Returns the colours, uint8 [h, w, 3], of rows of places in a palette of blue, green, red (and nothing)."""
    step = tf.where(layout.length == _OLD_HEADER, tf.constant(3, tf.int64), 4)
    stated = tf.where(layout.length > _OLD_HEADER, binary.little(binary.window(encoded, 46, 4)), 0)
    count = tf.where(
        stated > 0, stated, tf.bitwise.left_shift(tf.constant(1, tf.int64), tf.clip_by_value(layout.bits, 1, 8))
    )
    colours = binary.piece(encoded, 14 + layout.length, step * count)
    stored = tf.io.decode_raw(colours, tf.uint8, fixed_length=4 * 256)  # black beyond the palette's end
    palette = tf.gather(stored, tf.range(256, dtype=tf.int64)[:, tf.newaxis] * step + tf.constant([2, 1, 0], tf.int64))
    bits = tf.cast(tf.clip_by_value(layout.bits, 1, 8), tf.int32)
    shifts = 8 - bits - tf.range(8 // bits) * bits  # the leftmost pixel is in the highest bits
    parts = tf.bitwise.right_shift(rows[..., tf.newaxis], tf.cast(shifts, tf.uint8))
    parts = tf.bitwise.bitwise_and(parts, tf.cast(tf.bitwise.left_shift(1, bits) - 1, tf.uint8))
    places = tf.reshape(parts, tf.stack([tf.shape(rows)[0], -1]))[:, : layout.size[1]]
    return tf.gather(palette, tf.cast(places, tf.int32))
