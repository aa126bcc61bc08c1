"""Orientation against Pillow, and against TIFF directories written out by hand."""

import io
import struct
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tfretrieval.data.formats import exif

READ = tf.function(exif.stated_orientation, input_signature=[tf.TensorSpec([], tf.string)] * 2)
ORIENTATION, SHORT, LONG = 0x112, 3, 4


def read(found, xmp=b""):
    return int(READ(tf.constant(found), tf.constant(xmp)))


def tiff(entries, order=">", first=8, count=None):
    """A TIFF file of one directory; entries are (tag, type, count, the value's four bytes)."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", first)
    body = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    number = len(entries) if count is None else count
    return head.ljust(first, b"\0") + struct.pack(order + "H", number) + body + b"\0" * 4


def short(value, order=">"):
    return struct.pack(order + "HH", value, 0)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_every_value_in_both_byte_orders(value, order):
    for mark in (b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"):
        assert read(mark + tiff([(ORIENTATION, SHORT, 1, short(value, order))], order)) == value
    others = [(0x10F, 2, 3, b"ab\0\0"), (ORIENTATION, SHORT, 1, short(value, order)), (0x131, 2, 2, b"a\0\0\0")]
    assert read(tiff(others, order, first=30)) == value


@pytest.mark.parametrize("order", ["<", ">"])
def test_other_whole_numbers_and_values_elsewhere(order):
    assert read(tiff([(ORIENTATION, LONG, 1, struct.pack(order + "I", 6))], order)) == 6
    assert read(tiff([(ORIENTATION, 6, 1, b"\x05\0\0\0")], order)) == 5
    far = tiff([(ORIENTATION, SHORT, 3, struct.pack(order + "I", 40))], order).ljust(40, b"\0")
    assert read(far + struct.pack(order + "HHH", 8, 2, 3)) == 8
    twice = [(ORIENTATION, SHORT, 1, short(3, order)), (ORIENTATION, SHORT, 1, short(7, order))]
    assert read(tiff(twice, order)) == 3


WHOLE = tiff([(0x10F, 2, 3, b"ab\0\0"), (ORIENTATION, SHORT, 1, short(6))])
BROKEN = {
    "empty": b"",
    "mark alone": b"Exif\0\0",
    "no TIFF": b"Exif\0\0" + b"XX" + WHOLE[2:],
    "head alone": WHOLE[:8],
    "cut within the entry": WHOLE[:-8],
    "directory beyond the end": tiff([(ORIENTATION, SHORT, 1, short(6))])[:4] + b"\xff\xff\xff\xf0" + WHOLE[8:],
    "value 0": tiff([(ORIENTATION, SHORT, 1, short(0))]),
    "value 9": tiff([(ORIENTATION, SHORT, 1, short(9))]),
    "no values": tiff([(ORIENTATION, SHORT, 0, short(6))]),
    "text": tiff([(ORIENTATION, 2, 2, b"6\0\0\0")]),
    "an unknown type": tiff([(ORIENTATION, 99, 1, short(6))]),
    "values beyond the end": tiff([(ORIENTATION, SHORT, 9, b"\0\0\xff\0")]),
    "values of a length that overflows": tiff([(ORIENTATION, SHORT, 0xFFFFFFFF, b"\xff\xff\xff\xff")]),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_metadata_leaves_a_photo_as_stored(kind):
    assert read(BROKEN[kind]) == 1


def test_a_value_that_is_not_in_the_file_ends_the_directory_and_one_larger_than_the_file_is_left_out():
    following = (ORIENTATION, SHORT, 1, short(6))
    assert read(tiff([(0x10F, 2, 20, struct.pack(">I", 30)), following])) == 1
    assert read(tiff([(0x10F, 2, 999, struct.pack(">I", 30)), following])) == 6


def test_entries_before_the_place_where_a_directory_is_cut_count():
    assert read(tiff([(ORIENTATION, SHORT, 1, short(6))], count=500)) == 6


def test_damaged_directories_are_read_as_pillow_reads_them():
    """2,000 of Pillow's files and of our own with some bytes changed; Pillow's errors count as no orientation."""
    rng, agreed = np.random.default_rng(0), []
    own = Image.Exif()
    own[ORIENTATION], own[0x10F], own[0x110] = 6, "maker", "a model with a long name"
    bases = [own.tobytes(), b"Exif\0\0" + WHOLE, b"Exif\0\0" + tiff([(ORIENTATION, SHORT, 1, short(8, "<"))], "<")]
    for number in range(2000):
        data = bytearray(bases[number % 3])
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(6, len(data)))
            data[place] = int(rng.choice([0, 1, 2, 3, 4, 6, 8, 9, 0x12, 255, rng.integers(256)]))
        data = bytes(data[: rng.integers(20, len(data) + 1)] if rng.random() < 0.2 else data)
        stated = Image.Exif()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                stated.load(data)
                value = stated.get(ORIENTATION)
            except (SyntaxError, OSError, ValueError, struct.error):
                value = None
        if isinstance(value, float) or type(value).__name__ == "IFDRational":
            continue  # fractions that equal a whole number
        expected = value if value in range(2, 9) else 1
        assert read(data) == expected, data
        agreed.append(expected)
    assert len(agreed) > 1900 and len(set(agreed)) >= 5


def packet(text):
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\xc3\xa9\xff\n' + text + b"\n</x:xmpmeta>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'<rdf:Description tiff:Orientation="6" tiff:Make="x"/>', 6),
        (b"<tiff:Orientation>8</tiff:Orientation>", 8),
        (b'tiff:Orientation="3" tiff:Orientation="5"', 3),
        (b'tiff:Orientation="0"', 1),
        (b'tiff:Orientation="9"', 1),
        (b"tiff:Orientation='6'", 1),  # Pillow does not read it either
        (b"nothing", 1),
    ],
)
def test_xmp_counts_where_exif_says_nothing(text, expected):
    assert read(b"", packet(text)) == expected
    assert read(tiff([(0x10F, 2, 3, b"ab\0\0")]), packet(text)) == expected
    assert read(tiff([(ORIENTATION, SHORT, 1, short(2))]), packet(text)) == 2
    assert read(tiff([(ORIENTATION, SHORT, 1, short(0))]), packet(text)) == 1  # said, though wrongly


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(3, 5), (1, 7), (1, 1)])
def test_photos_are_turned_as_pillow_turns_them(orientation, size):
    pixels = np.random.default_rng(orientation).integers(0, 256, (*size, 3)).astype(np.uint8)
    marked = Image.Exif()
    marked[ORIENTATION] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=marked)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(buffer)))
    found = exif.turn_upright(tf.constant(pixels), tf.constant(orientation))
    np.testing.assert_array_equal(found, expected)
    assert exif.upright_size(tf.constant(size), tf.constant(orientation)).numpy().tolist() == list(expected.shape[:2])
