"""The orientation that a photo's metadata states, read in TensorFlow ops as Pillow reads it.

Source: Exif 2.3 (CIPA DC-008), TIFF 6.0, and XMP part 1 for the property `tiff:Orientation`. Broken metadata states
nothing: it never makes a photo unreadable.
"""

import tensorflow as tf

from tfretrieval.data.formats import binary

UPRIGHT = 1
EXIF_MARK = b"Exif\0\0"
_ORIENTATION = 0x0112
# Bytes of a value by the number of its type in TIFF; 0 for numbers that are none.
_TYPE_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
_WHOLE_NUMBERS = (3, 4, 6, 8, 9, 13)  # SHORT, LONG, SBYTE, SSHORT, SLONG, IFD
# The second and the fourth are wrong, and some writers make them.
_LITTLE_HEADS, _BIG_HEADS = (b"II\x2a\0", b"II\0\x2a"), (b"MM\0\x2a", b"MM\x2a\0")
_XMP_PATTERN = r'^\C*?tiff:Orientation(?:="|>)([0-9])\C*$'


def stated_orientation(exif: tf.Tensor, xmp: tf.Tensor) -> tf.Tensor:
    """Returns the orientation that a file's metadata states; Exif's tag goes before XMP's.

    Args:
        exif: string scalar, a TIFF file as Exif has it, with its mark or without; empty for none.
        xmp: string scalar, an XMP packet; empty for none.

    Returns:
        int32 scalar from 1 (as stored) to 8, the values of the tag; 1 where there is none or another value.
    """
    exif = tf.strings.regex_replace(exif, r"^(?:Exif\x00\x00){1,2}", "")
    tag = tiff_orientation(exif)
    stated = tf.cond(tag < 0, lambda: _xmp_orientation(xmp), lambda: tag)
    return tf.cast(tf.where((stated >= 1) & (stated <= 8), stated, UPRIGHT), tf.int32)


def tiff_orientation(tiff: tf.Tensor) -> tf.Tensor:
    """Returns the value of the tag Orientation in the first directory of a TIFF file.

    Of values of several numbers the first counts, and of several such tags the first that is whole.

    Args:
        tiff: string scalar.

    Returns:
        int64 scalar; -1 where there is no such tag, it is no whole number, or the file is broken before it.
    """
    head = binary.window(tiff, 0, 8)
    mark = binary.piece(tiff, 0, 4)
    is_big = tf.reduce_any(mark == tf.constant(_BIG_HEADS))
    known = tf.logical_or(is_big, tf.reduce_any(mark == tf.constant(_LITTLE_HEADS)))

    def number(found: tf.Tensor) -> tf.Tensor:
        return tf.where(is_big, binary.big(found), binary.little(found))

    def search() -> tf.Tensor:
        directory = number(head[4:8])
        stated = number(binary.window(tiff, directory, 2))
        there = tf.maximum(binary.length(tiff) - directory - 2, 0) // 12
        raw = binary.piece(tiff, directory + 2, 12 * tf.minimum(stated, there))
        entries = tf.transpose(tf.reshape(tf.cast(tf.io.decode_raw(raw, tf.uint8), tf.int64), [-1, 12]))
        return _first_orientation(tiff, entries, directory + 2, number)

    return tf.cond(known, search, lambda: tf.constant(-1, tf.int64))


def _first_orientation(tiff: tf.Tensor, entries: tf.Tensor, first: tf.Tensor, number) -> tf.Tensor:
    """Returns the value of the first orientation among the entries of a directory, int64 [12, n], or -1."""
    sizes = tf.constant(_TYPE_SIZES, tf.int64)
    kinds, counts, places = number(entries[2:4]), number(entries[4:8]), number(entries[8:12])
    size = tf.gather(sizes, tf.where(kinds < len(_TYPE_SIZES), kinds, 0))
    inside = first + 12 * tf.range(tf.size(kinds, tf.int64)) + 8
    places = tf.where(size * counts > 4, places, inside)
    # As Pillow 13: values outside of the entries that are longer together than the file are left out, and one that ends
    # behind the file is the end.
    count, far = size * counts, size * counts > 4
    left_out = far & (tf.cumsum(tf.where(far, count, 0)) > binary.length(tiff))
    broken = far & ~left_out & (places + count > binary.length(tiff))
    whole = (count > 0) & ~left_out & (tf.cumsum(tf.cast(broken, tf.int32)) == 0)
    found = tf.where((number(entries[0:2]) == _ORIENTATION) & whole)[:, 0]

    def value() -> tf.Tensor:
        which = found[0]
        data = binary.window(tiff, places[which], 4)
        wide = tf.where(size[which] == 2, number(data[:2]), number(data))
        whole_number = tf.reduce_any(kinds[which] == tf.constant(_WHOLE_NUMBERS, tf.int64))
        return tf.where(whole_number, tf.where(size[which] == 1, data[0], wide), 0)

    return tf.cond(tf.size(found) > 0, value, lambda: tf.constant(-1, tf.int64))


def _xmp_orientation(xmp: tf.Tensor) -> tf.Tensor:
    """Returns the first `tiff:Orientation` of an XMP packet, int64 scalar, or 0."""
    found = tf.strings.regex_full_match(xmp, _XMP_PATTERN)
    digit = tf.strings.regex_replace(xmp, _XMP_PATTERN, r"\1")
    return tf.strings.to_number(tf.where(found, digit, "0"), tf.int64)


def turn_upright(photo: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors a photo as its orientation asks for.

    Args:
        photo: uint8 [h, w, 3], as stored.
        orientation: int32 scalar in [1, 8].

    Returns:
        uint8 [h, w, 3]; [w, h, 3] for orientations from 5 on.
    """

    def turned() -> tf.Tensor:
        lying = tf.cond(orientation >= 5, lambda: tf.transpose(photo, [1, 0, 2]), lambda: photo)
        down = tf.reduce_any(orientation == [3, 4, 7, 8])
        across = tf.reduce_any(orientation == [2, 3, 6, 7])
        lying = tf.cond(down, lambda: tf.reverse(lying, [0]), lambda: lying)
        return tf.cond(across, lambda: tf.reverse(lying, [1]), lambda: lying)

    return tf.ensure_shape(tf.cond(orientation == UPRIGHT, lambda: photo, turned), [None, None, 3])


def upright_size(size: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Returns height and width of the upright photo, int [2], from those that are stored."""
    return tf.where(orientation >= 5, tf.reverse(size, [0]), size)
