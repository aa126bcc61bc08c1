"""WebP: stills, and the first frame of animations.

TensorFlow 2.21's decoder writes behind the end of its memory when an animation states no transparency: the process
crashes. So it never sees one: whatever an extended file holds, a still of its first picture is made, and decoded.
Source: the WebP container specification and RFC 6386, RFC 9649 for the sizes in the pictures' headers.
"""

import dataclasses

import tensorflow as tf

from tfretrieval.data.formats import binary, exif
from tfretrieval.data.formats.png import on_white

RIFF, MAGIC = b"RIFF", b"WEBP"  # at 0 and at 8
_ALPHA_FLAG = 0x10
_FIRST_CHUNK = 12
_FRAME_BYTES = 16  # an animation's frame says its place and more before its picture
_MOST_CHUNKS = 10_000


@dataclasses.dataclass(frozen=True)
class _Picture:
    """Where the first picture of a WebP is; int64 scalars.

    Attributes:
        canvas: height and width, int64 [2], that the file states; zeros for a plain file.
        flags: those of an extended file; -1 for a plain one.
        place: top and left on the canvas, int64 [2].
        size: height and width, int64 [2].
        lossless: whether the picture is of the kind VP8L.
        bits: where the picture's chunk begins; 0 where there is none.
        alpha: where the chunk ALPH before it begins; 0 for none.
        exif: where the chunk EXIF begins; 0 for none.
        xmp: where the chunk XMP begins; 0 for none.
        cut: whether the file is shorter than it says.
    """

    canvas: tf.Tensor
    flags: tf.Tensor
    place: tf.Tensor
    size: tf.Tensor
    lossless: tf.Tensor
    bits: tf.Tensor
    alpha: tf.Tensor
    exif: tf.Tensor
    xmp: tf.Tensor
    cut: tf.Tensor


def header(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Reads a WebP's chunks.

    Args:
        encoded: string scalar, a file that begins with `RIFF` and has `MAGIC` at its byte 8.

    Returns:
        Height and width as stored, int64 [2]; the orientation, int32 scalar; and what is wrong with the file, string
        scalar, empty for nothing.
    """
    picture = _first_picture(encoded)
    orientation = exif.stated_orientation(_content(encoded, picture.exif), _content(encoded, picture.xmp))
    return _shown(picture), orientation, _problem(picture)


def _problem(picture: _Picture) -> tf.Tensor:
    there = (picture.bits > 0) & (tf.reduce_min(picture.size) > 0)
    fits = (picture.flags < 0) | tf.reduce_all(picture.place + picture.size <= picture.canvas)
    return binary.first_text(
        [
            (picture.cut, "a WebP that is shorter than it says"),
            (~there, "a WebP without a picture that says its size"),
            (~fits, "a WebP with a picture beyond its canvas"),
        ]
    )


def _shown(picture: _Picture) -> tf.Tensor:
    return tf.where(picture.flags < 0, picture.size, picture.canvas)


def _content(encoded: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """Returns what a chunk holds; empty for none."""
    count = binary.little(binary.window(encoded, at + 4, 4))
    return tf.where(at > 0, binary.piece(encoded, at + 8, count), "")


def _first_picture(encoded: tf.Tensor) -> _Picture:
    """Walks through the chunks of a file, and through those of an animation's first frame."""
    none = tf.constant(0, tf.int64)
    first = binary.window(encoded, _FIRST_CHUNK, 18)
    extended = binary.is_text(first, b"VP8X")

    def step(at, frame, alpha, bits, exif_at, xmp_at):
        found = binary.window(encoded, at, 8)
        after = at + 8 + (binary.little(found[4:]) + 1) // 2 * 2
        is_frame = binary.is_text(found, b"ANMF")
        # Into the first frame, over all others.
        enters = is_frame & (frame == 0) & (bits == 0)
        is_bits = (bits == 0) & (binary.is_text(found, b"VP8 ") | binary.is_text(found, b"VP8L"))
        is_alpha = (bits == 0) & (alpha == 0) & binary.is_text(found, b"ALPH")
        return (
            tf.where(enters, at + 8 + _FRAME_BYTES, after),
            tf.where(enters, at, frame),
            tf.where(is_alpha, at, alpha),
            tf.where(is_bits, at, bits),
            tf.where((exif_at == 0) & binary.is_text(found, b"EXIF"), at, exif_at),
            tf.where((xmp_at == 0) & binary.is_text(found, b"XMP "), at, xmp_at),
        )

    def goes_on(at, frame, alpha, bits, *_):
        return (at < binary.length(encoded)) & (extended | (bits == 0))

    start = (tf.constant(_FIRST_CHUNK, tf.int64), none, none, none, none, none)
    _, frame, alpha, bits, exif_at, xmp_at = tf.while_loop(goes_on, step, start, maximum_iterations=_MOST_CHUNKS)
    placed = binary.window(encoded, frame + 8, 6)
    place = 2 * tf.stack([binary.little(placed[3:]), binary.little(placed[:3])])
    canvas = tf.stack([binary.little(first[15:18]), binary.little(first[12:15])]) + 1
    size, lossless = _picture_size(encoded, bits)
    return _Picture(
        canvas=tf.where(extended, canvas, 0),
        flags=tf.where(extended, first[8], -1),
        place=tf.where(frame > 0, place, 0),
        size=size,
        lossless=lossless,
        bits=bits,
        alpha=alpha,
        exif=exif_at,
        xmp=xmp_at,
        cut=binary.length(encoded) < 8 + binary.little(binary.window(encoded, 4, 4)),
    )


def _picture_size(encoded: tf.Tensor, bits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns height and width, int64 [2], from the header of a picture's chunk, and whether it is lossless."""
    found = binary.window(encoded, bits, 18)
    lossless = binary.is_text(found, b"VP8L")
    packed = binary.little(found[9:13])
    of_lossless = tf.stack([packed // (1 << 14) % (1 << 14), packed % (1 << 14)]) + 1
    of_lossy = tf.stack([binary.little(found[16:18]), binary.little(found[14:16])]) % (1 << 14)
    return tf.where(bits > 0, tf.where(lossless, of_lossless, of_lossy), 0), lossless


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a WebP, of an animation the first frame; transparency is laid on white.

    As Pillow does, takes no notice of transparency that the header of an extended file does not state, and shows what
    an animation's first frame does not cover white or, without transparency, black.

    Args:
        encoded: string scalar.

    Returns:
        The photo as stored, uint8 [h, w, 3].

    Raises:
        tf.errors.InvalidArgumentError: the file is broken.
    """
    picture = _first_picture(encoded)
    with tf.control_dependencies([binary.refuse(_problem(picture))]):
        still = _still(encoded, picture)
    decoded = tf.raw_ops.DecodeWebP(contents=still)[0]
    states_alpha = (picture.flags < 0) | (picture.flags & _ALPHA_FLAG > 0)
    photo = tf.cond(
        states_alpha & (tf.shape(decoded)[2] == 4), lambda: on_white(decoded), lambda: tf.identity(decoded[..., :3])
    )
    shown = _shown(picture)
    after = shown - picture.place - picture.size
    around = tf.concat([tf.stack([picture.place, after], axis=1), tf.zeros([1, 2], tf.int64)], axis=0)
    rest = tf.where(states_alpha, tf.constant(255, tf.uint8), 0)
    return tf.cond(
        tf.reduce_all(picture.size == shown), lambda: photo, lambda: tf.pad(photo, around, constant_values=rest)
    )


def _still(encoded: tf.Tensor, picture: _Picture) -> tf.Tensor:
    """Returns a file with nothing but the picture."""

    def chunk(kind, content: tf.Tensor) -> tf.Tensor:
        count = binary.length(content)
        odd = tf.where(count % 2 == 1, b"\0", b"")
        return tf.strings.join([kind, binary.written(count, 4), content, odd])

    # Only a lossy picture has its alpha in a chunk of its own; it needs the extended header.
    has_alpha = (picture.alpha > 0) & ~picture.lossless
    sides = binary.written(picture.size[1] - 1, 3) + binary.written(picture.size[0] - 1, 3)
    extension = chunk(b"VP8X", binary.written(_ALPHA_FLAG, 4) + sides) + chunk(
        b"ALPH", _content(encoded, picture.alpha)
    )
    bits = chunk(tf.where(picture.lossless, b"VP8L", b"VP8 "), _content(encoded, picture.bits))
    chunks = tf.strings.join([MAGIC, tf.where(has_alpha, extension, b""), bits])
    return tf.strings.join([RIFF, binary.written(binary.length(chunks), 4), chunks])
