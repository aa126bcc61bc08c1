import io
import struct
import time
import warnings
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tfretrieval.data.photos import ORIENTATION, PhotoError, prepare_photo, to_rgb

LIMIT = 100_000_000
PIXELS = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8), (40, 24), interpolation=cv2.INTER_CUBIC
)
PHOTO = Image.fromarray(PIXELS)
RAMP = np.broadcast_to(np.linspace(0, 255, 40).astype(np.uint8), (24, 40))

# What each orientation of the EXIF standard asks for, written with NumPy.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


def encode(image, image_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def pixels(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def oriented(orientation, image_format, **options):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(PHOTO, image_format, exif=exif, **options)


def png_of(width, height):
    """A PNG whose header claims a size, with no image data behind it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_is_applied_to_a_png_exactly(orientation):
    photo = prepare_photo(oriented(orientation, "PNG"), LIMIT)
    expected = UPRIGHT[orientation](PIXELS)
    np.testing.assert_array_equal(pixels(photo.encoded), expected)
    assert (photo.height, photo.width) == expected.shape[:2]
    assert photo.format == "PNG"


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_of_a_jpeg_is_applied_as_pillow_does(orientation):
    encoded = oriented(orientation, "JPEG", quality=95, subsampling=0)
    photo = prepare_photo(encoded, LIMIT)
    stored = np.asarray(Image.open(io.BytesIO(encoded)))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))))
    np.testing.assert_array_equal(expected, UPRIGHT[orientation](stored))
    assert photo.format == "JPEG"
    assert (photo.height, photo.width) == expected.shape[:2]
    assert np.abs(pixels(photo.encoded).astype(int) - expected).max() <= 6
    assert (photo.encoded == encoded) == (orientation == 1)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_an_upright_photo_is_not_turned_again(orientation):
    once = prepare_photo(oriented(orientation, "JPEG"), LIMIT)
    assert prepare_photo(once.encoded, LIMIT) == once


@pytest.mark.parametrize(
    "encoded",
    [
        encode(PHOTO, "JPEG"),
        encode(PHOTO, "JPEG", quality=60, progressive=True),
        encode(PHOTO, "JPEG", icc_profile=b"not looked at"),
        encode(PHOTO, "PNG"),
        encode(PHOTO, "PNG", compress_level=1),
        encode(PHOTO, "MPO", save_all=True, append_images=[Image.fromarray(PIXELS[::-1])]),
    ],
    ids=["jpeg", "progressive", "profile", "png", "png1", "mpo"],
)
def test_upright_rgb_jpeg_and_png_keep_their_bytes(encoded):
    photo = prepare_photo(encoded, LIMIT)
    assert photo.encoded == encoded
    assert (photo.height, photo.width) == (24, 40)
    assert photo.format == ("PNG" if encoded.startswith(b"\x89PNG") else "JPEG")


def on_white(colour, alpha):
    """Transparency laid on white, in exact arithmetic."""
    alpha = alpha.astype(float)[..., None] / 255
    return colour * alpha + 255 * (1 - alpha)


GREY = np.asarray(PHOTO.convert("L"))
WIDE = (np.arange(24 * 40, dtype=np.uint16) * 68).reshape(24, 40)
INDEXED = PHOTO.quantize(16)
PALETTE = np.array(INDEXED.getpalette()[:48], np.uint8).reshape(16, 3)
INDICES = np.asarray(INDEXED)
RGBA = Image.fromarray(np.dstack([PIXELS, RAMP]), "RGBA")
LA = Image.merge("LA", (PHOTO.convert("L"), Image.fromarray(RAMP)))
KEYED = PIXELS.copy()
KEYED[:5, :7] = (1, 2, 3)

CONVERTED = {
    "grey PNG": (encode(PHOTO.convert("L"), "PNG"), "PNG", np.dstack([GREY] * 3), 0),
    "grey JPEG": (encode(PHOTO.convert("L"), "JPEG", quality=95), "JPEG", np.dstack([GREY] * 3), 6),
    "bilevel PNG": (encode(Image.fromarray(GREY > 127), "PNG"), "PNG", np.dstack([(GREY > 127) * 255] * 3), 0),
    "CMYK JPEG": (encode(PHOTO.convert("CMYK"), "JPEG", quality=95, subsampling=0), "JPEG", PIXELS, 8),
    "palette PNG": (encode(INDEXED, "PNG"), "PNG", PALETTE[INDICES], 0),
    "palette PNG with one transparent colour": (
        encode(INDEXED, "PNG", transparency=3),
        "PNG",
        np.where((INDICES == 3)[..., None], 255, PALETTE[INDICES]),
        0,
    ),
    "palette PNG with alpha of each colour": (
        encode(INDEXED, "PNG", transparency=bytes(range(0, 256, 16))),
        "PNG",
        on_white(PALETTE[INDICES], INDICES * 16),
        1,
    ),
    "RGB PNG with one transparent colour": (
        encode(Image.fromarray(KEYED), "PNG", transparency=(1, 2, 3)),
        "PNG",
        np.where((KEYED == (1, 2, 3)).all(-1, keepdims=True), 255, KEYED),
        0,
    ),
    "RGBA PNG": (encode(RGBA, "PNG"), "PNG", on_white(PIXELS, RAMP), 1),
    "LA PNG": (encode(LA, "PNG"), "PNG", on_white(np.dstack([GREY] * 3), RAMP), 1),
    "16-bit PNG": (encode(Image.fromarray(WIDE), "PNG"), "PNG", np.dstack([WIDE // 256] * 3), 0),
    "16-bit TIFF": (encode(Image.fromarray(WIDE), "TIFF"), "PNG", np.dstack([WIDE // 256] * 3), 0),
    "WebP": (encode(PHOTO, "WEBP", quality=100), "JPEG", PIXELS, 24),
    "BMP": (encode(PHOTO, "BMP"), "PNG", PIXELS, 0),
    "TIFF": (encode(PHOTO, "TIFF"), "PNG", PIXELS, 0),
    "LZW TIFF": (encode(PHOTO, "TIFF", compression="tiff_lzw"), "PNG", PIXELS, 0),
    "GIF": (encode(INDEXED, "GIF"), "PNG", PALETTE[INDICES], 0),
    "animated GIF": (
        encode(INDEXED, "GIF", save_all=True, append_images=[INDEXED.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]),
        "PNG",
        PALETTE[INDICES],
        0,
    ),
    "PPM": (encode(PHOTO, "PPM"), "PNG", PIXELS, 0),
}


@pytest.mark.parametrize("kind", CONVERTED)
def test_every_kind_of_photo_becomes_rgb(kind):
    encoded, image_format, expected, tolerance = CONVERTED[kind]
    photo = prepare_photo(encoded, LIMIT)
    written = Image.open(io.BytesIO(photo.encoded))
    assert (written.mode, written.format, photo.format) == ("RGB", image_format, image_format)
    assert "transparency" not in written.info
    assert (photo.height, photo.width) == (written.height, written.width) == (24, 40)
    assert np.abs(np.asarray(written).astype(float) - expected).max() <= tolerance


def test_sixteen_bit_colour_png_reads_as_its_upper_bytes():
    wide = np.dstack([WIDE, WIDE[::-1], WIDE[:, ::-1]])
    encoded = cv2.imencode(".png", wide[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(pixels(prepare_photo(encoded, LIMIT).encoded), wide // 256)


def test_transparent_colour_and_orientation_are_both_applied():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    photo = prepare_photo(encode(RGBA, "PNG", exif=exif), LIMIT)
    assert np.abs(pixels(photo.encoded) - np.rot90(on_white(PIXELS, RAMP), -1)).max() <= 1


@pytest.mark.parametrize("alpha", [0, 1, 127, 254, 255])
def test_to_rgb_lays_an_even_alpha_on_white(alpha):
    image = Image.fromarray(np.dstack([PIXELS, np.full((24, 40), alpha, np.uint8)]), "RGBA")
    assert np.abs(np.asarray(to_rgb(image)) - on_white(PIXELS, np.full((24, 40), alpha))).max() <= 1


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>not found</html>", "not an image in a known format"),
        (b"\xff\xd8\xff", "not an image in a known format"),
        (b"\x89PNG\r\n\x1a\n", "not an image in a known format"),
        (encode(PHOTO, "JPEG")[:-200], "the image data is broken: image file is truncated"),
        (encode(PHOTO, "JPEG", progressive=True)[:-200], "the image data is broken"),
        (encode(PHOTO, "PNG")[:-200], "the image data is broken"),
        (encode(PHOTO, "BMP")[:-200], "the image data is broken"),
        (encode(PHOTO, "TIFF")[:-200], "."),
        (encode(PHOTO, "WEBP")[:-20], "."),
    ],
    ids=["empty", "html", "jpeg start", "png start", "jpeg", "progressive", "png", "bmp", "tiff", "webp"],
)
def test_files_that_are_no_whole_photo_are_rejected_with_a_reason(encoded, reason):
    with pytest.raises(PhotoError, match=reason) as caught:
        prepare_photo(encoded, LIMIT)
    assert "\n" not in str(caught.value)


def test_reasons_do_not_repeat_a_full_stop():
    with pytest.raises(PhotoError) as caught:
        prepare_photo(encode(PHOTO, "JPEG")[:-200], LIMIT)
    assert not str(caught.value).endswith(".")


def test_a_header_that_claims_too_many_pixels_is_refused_in_milliseconds():
    encoded = png_of(50_000, 50_000)
    with pytest.raises(PhotoError):
        prepare_photo(png_of(1, 1), LIMIT)  # what is loaded on the first call is not timed
    start = time.perf_counter()
    with warnings.catch_warnings(), pytest.raises(PhotoError) as caught:
        warnings.simplefilter("error")  # Pillow's own bomb warning would be noise beside our sentence
        prepare_photo(encoded, LIMIT)
    assert time.perf_counter() - start < 0.1
    assert str(caught.value) == "50000x50000 pixels, more than the 100000000 that --max_pixels allows"


def test_the_pixel_limit_itself_is_allowed():
    encoded = encode(PHOTO, "PNG")
    assert prepare_photo(encoded, 24 * 40).width == 40
    with pytest.raises(PhotoError, match="40x24 pixels, more than the 959"):
        prepare_photo(encoded, 24 * 40 - 1)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("cut", [23, 24, 30, 45, 60, 100, 200, 400])
def test_a_truncated_photo_is_rejected_wherever_it_ends(image_format, cut):
    with pytest.raises(PhotoError):
        prepare_photo(encode(PHOTO, image_format)[:-cut], LIMIT)


def test_a_jpeg_that_misses_its_last_bytes_is_rejected_or_decodes():
    for cut in range(1, 23):
        _rejected_or_decodes(encode(PHOTO, "JPEG")[:-cut])


@pytest.mark.parametrize("cut", [1, 4, 5, 8, 12, 13, 16, 22])  # within each part of the end: IEND, then IDAT's checksum
def test_a_png_that_misses_its_last_bytes_is_rejected_or_decodes(cut):
    _rejected_or_decodes(encode(PHOTO, "PNG")[:-cut])


def _rejected_or_decodes(encoded):
    try:
        photo = prepare_photo(encoded, LIMIT)
    except PhotoError:
        return
    assert tf.io.decode_image(photo.encoded, channels=3).shape == (photo.height, photo.width, 3)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize(("at", "value"), [(17, 0x00), (17, 0x1A), (17, 0x54), (19, 11)])
def test_an_odd_exif_entry_beside_the_orientation_does_not_stop_the_run(at, value):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010E] = "hello"  # the description, whose tag or type the changed byte turns into another one
    encoded = bytearray(encode(PHOTO, "JPEG", exif=exif))
    encoded[encoded.index(b"Exif") + at] = value
    photo = prepare_photo(bytes(encoded), LIMIT)
    # Where the change hides the orientation from Pillow, the photo counts as upright.
    assert sorted((photo.height, photo.width)) == [24, 40]
