"""Files of every format as Pillow shows them: upright, in RGB, transparency on white, of animations the first frame."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps, PngImagePlugin

from tfretrieval.data import decoding

RNG = np.random.default_rng(0)
RGB = Image.fromarray(RNG.integers(0, 256, (6, 8, 3), np.uint8)).resize((70, 45), Image.Resampling.BICUBIC)
GREY, PALETTE = RGB.convert("L"), RGB.quantize(16)
FADE = Image.linear_gradient("L").resize(RGB.size)
RGBA, LA = Image.merge("RGBA", (*RGB.split(), FADE)), Image.merge("LA", (GREY, FADE))
TURNED = RGB.rotate(90)
SIXES = Image.Exif()
SIXES[0x112] = 6

READ = tf.function(decoding.read_header, input_signature=[tf.TensorSpec([], tf.string)])


@tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)])
def decode(encoded, orientation):
    return decoding.decode_sent(encoded, orientation, 1 << 20)


def encode(image, image_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def by_pillow(encoded):
    image = Image.open(io.BytesIO(encoded))
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return np.dstack([(np.asarray(image).astype(int) >> 8).astype(np.uint8)] * 3)
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def check(encoded):
    expected = by_pillow(encoded)
    size, orientation, problem = READ(tf.constant(encoded))
    assert problem.numpy() == b""
    stored = Image.open(io.BytesIO(encoded)).size
    photo, given = decode(tf.constant(encoded), orientation)
    assert given.numpy().tolist() == list(expected.shape[:2])
    assert sorted(size.numpy().tolist()) == sorted(stored)
    assert photo.shape == expected.shape
    assert np.abs(photo.numpy().astype(int) - expected).max() <= 1


def with_orientation(value, order):
    """Exif of one entry, in a byte order."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + head + struct.pack(order + "IHHHIHHI", 8, 1, 0x112, 3, 1, value, 0, 0)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_photos_are_turned_upright(image_format, orientation, order):
    encoded = encode(RGB, image_format, exif=with_orientation(orientation, order))
    assert int(READ(tf.constant(encoded))[1]) == orientation
    check(encoded)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def xmp(orientation):
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % orientation


def png_text(orientation):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp(orientation).decode())
    return text


PNG = encode(RGB, "PNG")
PLACES_OF_ORIENTATION = {
    "JPEG's XMP": (encode(RGB, "JPEG", xmp=xmp(6)), 6),
    "WebP's XMP": (encode(RGB, "WEBP", xmp=xmp(8)), 8),
    "PNG's XMP": (encode(RGB, "PNG", pnginfo=png_text(5)), 5),
    "PNG's Exif behind the pixels": (PNG[:-12] + chunk(b"eXIf", SIXES.tobytes()[6:]) + PNG[-12:], 6),
    "a phone's two pictures": (encode(RGB, "MPO", save_all=True, append_images=[RGB], exif=SIXES), 6),
    "of an animation": (encode(RGB, "WEBP", save_all=True, append_images=[TURNED], exif=SIXES), 6),
    "with transparency": (encode(RGBA, "WEBP", exif=SIXES), 6),
    "behind another APP1": (
        (jpeg := encode(RGB, "JPEG", exif=SIXES))[:2] + b"\xff\xe1\x00\x06none\xff\xff" + jpeg[2:],
        6,
    ),
}


@pytest.mark.parametrize("place", PLACES_OF_ORIENTATION)
def test_orientation_is_found_wherever_pillow_finds_it(place):
    encoded, orientation = PLACES_OF_ORIENTATION[place]
    assert int(READ(tf.constant(encoded))[1]) == orientation
    check(encoded)


def adobe(transform):
    """A JPEG of four colours with another transform in Adobe's marker; None takes the marker away."""
    whole = encode(RGB.convert("CMYK"), "JPEG")
    place = whole.index(b"Adobe")
    if transform is None:
        return whole[:place] + b"Other" + whole[place + 5 :]
    return whole[: place + 11] + bytes([transform]) + whole[place + 12 :]


@pytest.mark.parametrize(
    "encoded",
    [
        *(encode(RGB, "JPEG", subsampling=sampling) for sampling in range(3)),
        encode(RGB, "JPEG", progressive=True),
        encode(RGB, "JPEG", keep_rgb=True),
        encode(GREY, "JPEG"),
        adobe(0),
        adobe(2),
        adobe(None),
        encode(RGB.resize((1, 1)), "JPEG"),
        encode(RGB.resize((5000, 1)), "JPEG"),
    ],
    ids=[*(["4:4:4", "4:2:2", "4:2:0", "progressive", "RGB", "grey", "CMYK", "YCCK", "unmarked", "1x1", "1x5000"])],
)
def test_jpegs(encoded):
    check(encoded)


def wide_rgba():
    levels = RNG.integers(0, 65536, (20, 30, 4)).astype(np.uint16)
    return cv2.imencode(".png", levels)[1].tobytes()


@pytest.mark.parametrize(
    "encoded",
    [
        *(encode(image, "PNG") for image in (RGB, GREY, PALETTE, RGBA, LA, GREY.convert("1"))),
        *(encode(RGB.quantize(1 << bits), "PNG", bits=bits) for bits in (1, 2, 4)),
        encode(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 54), "PNG"),
        wide_rgba(),
        encode(RGB, "PNG", transparency=RGB.getpixel((3, 3))),
        encode(GREY, "PNG", transparency=GREY.getpixel((5, 5))),
        encode(PALETTE, "PNG", transparency=bytes(range(0, 256, 16))),
        encode(RGB, "PNG", save_all=True, append_images=[TURNED]),
        PNG[:33] + chunk(b"teXt", b"like\0tRNS") + PNG[33:],
        encode(RGB.resize((1, 5000)), "PNG"),
        encode(RGB.resize((1, 1)), "PNG"),
    ],
    ids=[
        "RGB",
        "L",
        "P",
        "RGBA",
        "LA",
        "1",
        "P1",
        "P2",
        "P4",
        "16",
        "RGBA16",
        "key",
        "greykey",
        "palettealpha",
        "animated",
        "notalpha",
        "5000x1",
        "1x1",
    ],
)
def test_pngs(encoded):
    check(encoded)


BMP = encode(RGB, "BMP")


def bmp_header(bits, compression, pixels, masks=b"", size=RGB.size, length=40):
    head = struct.pack("<IiiHHIIiiII", length, *size, 1, bits, compression, len(pixels), 0, 0, 0, 0) + masks
    head = head.ljust(length, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 14 + len(head)) + head + pixels


def old_bmp(palette, bits, pixels):
    head = struct.pack("<IHHHH", 12, *RGB.size, 1, bits) + palette
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 14 + len(head)) + head + pixels


BGRA = np.asarray(RGBA)[::-1, :, [2, 1, 0, 3]].tobytes()
COLOUR_MASKS = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
PLACES = np.pad(np.asarray(PALETTE)[::-1], ((0, 0), (0, 2))).tobytes()
OLD_PALETTE = RNG.integers(0, 256, 768).astype(np.uint8).tobytes()


@pytest.mark.parametrize(
    "encoded",
    [
        *(encode(image, "BMP") for image in (RGB, GREY, RGBA, PALETTE, RGB.quantize(3), GREY.convert("1"))),
        BMP[:22] + struct.pack("<i", -45) + BMP[26:],
        BMP + b"more",
        bmp_header(32, 3, BGRA, COLOUR_MASKS + struct.pack("<I", 0xFF000000), length=108),
        bmp_header(32, 3, BGRA, COLOUR_MASKS, length=108),
        old_bmp(b"", 24, BMP[54:]),
        old_bmp(OLD_PALETTE, 8, PLACES),
        (whole := encode(PALETTE, "BMP"))[:2000] + b"\x63" + whole[2001:],
    ],
    ids=[
        "RGB",
        "L",
        "RGBA",
        "P",
        "P3",
        "1",
        "topdown",
        "trailing",
        "alpha",
        "noalpha",
        "old",
        "oldpalette",
        "beyondpalette",
    ],
)
def test_bmps(encoded):
    check(encoded)


def placed_gif(encoded, screen, place):
    """A GIF whose frame lies somewhere on a screen of another size."""
    at = encoded.index(b"\x2c\0\0\0\0")
    screen, place = struct.pack("<HH", *screen), struct.pack("<HH", *place)
    return encoded[:6] + screen + encoded[10 : at + 1] + place + encoded[at + 5 :]


GIF, HOLED = encode(PALETTE, "GIF"), encode(PALETTE, "GIF", transparency=3)
NOISE = Image.fromarray(RNG.integers(0, 256, (200, 300)).astype(np.uint8))


@pytest.mark.parametrize(
    "encoded",
    [
        *(encode(image, "GIF") for image in (PALETTE, RGB, GREY, RGBA, GREY.convert("1"), RGB.quantize(2), NOISE)),
        HOLED,
        encode(PALETTE, "GIF", interlace=0),
        encode(PALETTE, "GIF", save_all=True, append_images=[TURNED.quantize(32)], loop=0),
        encode(PALETTE, "GIF", save_all=True, append_images=[TURNED.quantize(9)], transparency=2, disposal=2),
        encode(PALETTE, "GIF", comment=b"c" * 700),
        placed_gif(GIF, (90, 80), (7, 9)),
        placed_gif(HOLED, (90, 80), (7, 9)),
        placed_gif(GIF, (60, 30), (7, 9)),
    ],
    ids=[
        "P",
        "RGB",
        "L",
        "RGBA",
        "1",
        "P2",
        "noise",
        "holed",
        "lines",
        "animated",
        "both",
        "comment",
        "placed",
        "holedplaced",
        "beyond",
    ],
)
def test_gifs(encoded):
    check(encoded)


def placed_webp(image, canvas, place, flags):
    """An animation of one frame, which lies somewhere on a canvas."""

    def number(value):
        return struct.pack("<I", value)[:3]

    still = encode(image, "WEBP")[12:]
    still = still[18:] if still.startswith(b"VP8X") else still
    frame = b"".join(map(number, (place[0] // 2, place[1] // 2, image.width - 1, image.height - 1))) + b"\x64\0\0\2"
    frame += still
    chunks = b"VP8X" + struct.pack("<IB", 10, flags) + b"\0\0\0" + number(canvas[0] - 1) + number(canvas[1] - 1)
    chunks += b"ANIM" + struct.pack("<I", 6) + b"\x10\x20\x30\xff\0\0"
    chunks += b"ANMF" + struct.pack("<I", len(frame)) + frame + b"\0" * (len(frame) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


ANIMATED, ALPHA = 0x02, 0x10


@pytest.mark.parametrize(
    "encoded",
    [
        *(
            encode(image, "WEBP", lossless=lossless)
            for image in (RGB, RGBA, GREY, PALETTE)
            for lossless in (False, True)
        ),
        *(
            encode(image, "WEBP", save_all=True, append_images=[TURNED], lossless=lossless)
            for image in (RGB, RGBA)
            for lossless in (False, True)
        ),
        encode(RGB, "WEBP", icc_profile=b"p" * 501),
        placed_webp(RGB, (90, 80), (8, 10), ANIMATED),
        placed_webp(RGBA, (90, 80), (8, 10), ANIMATED | ALPHA),
        placed_webp(RGBA, RGB.size, (0, 0), ANIMATED),
        encode(RGB.resize((1, 1)), "WEBP"),
    ],
)
def test_webps(encoded):
    check(encoded)


def refused(encoded):
    """What is said of a file: from its header, or else by the decoder."""
    _, orientation, problem = READ(tf.constant(encoded))
    if problem.numpy():
        return problem.numpy().decode()
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        decode(tf.constant(encoded), orientation)
    return error.value.message


WEBP, MOVING = encode(RGB, "WEBP"), encode(RGB, "WEBP", save_all=True, append_images=[TURNED])
JPEG = encode(RGB, "JPEG")


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("whole", [JPEG, PNG, BMP, GIF, WEBP, MOVING[:-100], encode(RGBA, "WEBP")])
def test_truncated_files_are_refused(whole, share):
    assert refused(whole[: int(len(whole) * share)])


def scanned(count):
    """A progressive JPEG whose last scan is there more than once."""
    whole = encode(RGB, "JPEG", progressive=True)
    return whole[:-2] + whole[whole.rindex(b"\xff\xda") : -2] * count + whole[-2:]


@pytest.mark.parametrize(
    ("encoded", "told"),
    [
        (b"", "not an image; one of JPEG, PNG, GIF, BMP, WebP is wanted"),
        (b"RIFF\0\0\0\0WAVE", "not an image"),
        (b"\xff\xd8\xff", "a JPEG without a frame header"),
        (b"\xff\xd8" + b"\xff\xe2\0\2" * 5000, "a JPEG without a frame header"),
        (scanned(200), "a progressive JPEG of more than 100 scans"),
        (PNG[:20], "a PNG without a header"),
        (encode(RGB, "BMP")[:20], "a BMP without a header"),
        (bmp_header(16, 0, bytes(8), size=(2, 2)), "a BMP of 16 bits a pixel and compression 0, which is not read"),
        (bmp_header(8, 1, bytes(8), size=(2, 2)), "a BMP of 8 bits a pixel and compression 1, which is not read"),
        (bmp_header(32, 3, BGRA, struct.pack("<III", 0xFF, 0xFF00, 0xFF0000)), "a BMP of 32 bits"),
        (b"GIF89a\1\0\1\0\0\0\0;", "a GIF without a frame"),
        (GIF[:400], "a GIF that ends within its first frame"),
        (b"RIFF\4\0\0\0WEBP", "a WebP without a picture"),
        (WEBP[:-1], "a WebP that is shorter than it says"),
        (placed_webp(RGB, (72, 46), (40, 0), ANIMATED), "a WebP with a picture beyond its canvas"),
    ],
)
def test_what_is_wrong_is_said(encoded, told):
    assert told in refused(encoded)


def test_many_scans_are_fine_below_the_limit():
    check(scanned(40))


def test_a_gif_whose_data_ends_early_within_whole_blocks_is_refused():
    noise = encode(NOISE, "GIF")
    at = noise.index(b"\x2c\0\0\0\0") + 10
    short = noise[: at + 1 + 256 * 20] + b"\0;"
    assert READ(tf.constant(short))[2].numpy() == b""
    assert "defective" in refused(short)
