import io

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfretrieval.data import decoding

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (96, 128, 3)).astype(np.uint8)
SMOOTH = cv2.resize(RNG.integers(0, 256, (12, 16, 3)).astype(np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
SMALL = cv2.resize(SMOOTH, (64, 48), interpolation=cv2.INTER_AREA)
RAMP = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8), (48, 64))


def encode(image, image_format, **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, image_format, **options)
    return buffer.getvalue()


def pillow(encoded):
    return Image.open(io.BytesIO(encoded)).convert("RGB")


def decode(encoded, longer_side):
    return decoding.decode_sent(tf.constant(encoded), tf.constant(1), longer_side)[0].numpy()


def difference(one, other):
    return np.abs(np.asarray(one).astype(int) - np.asarray(other))


JPEG = encode(SMOOTH, "JPEG", quality=92)


@pytest.mark.parametrize(
    ("height", "width", "longer_side", "expected"),
    [
        (480, 640, 320, (240, 320)),
        (640, 480, 320, (320, 240)),
        (480, 640, 641, (480, 640)),  # never enlarged
        (480, 640, 640, (480, 640)),
        (10, 10, 1, (1, 1)),
        (1, 1000, 100, (1, 100)),  # 0.1 becomes at least 1
        (1000, 1, 100, (100, 1)),
        (333, 500, 224, (149, 224)),  # 149.18
        (427, 640, 362, (242, 362)),  # 241.52
        (3, 6, 3, (2, 3)),  # 1.5: halves go to the even neighbour
        (5, 10, 5, (2, 5)),  # 2.5
        (7, 10, 5, (4, 5)),  # 3.5
        (1, 1, 1024, (1, 1)),
    ],
)
def test_target_size_by_hand(height, width, longer_side, expected):
    size = decoding.target_size(tf.constant([height, width]), longer_side)
    assert tuple(size.numpy()) == expected
    assert size.dtype == tf.int32


def test_target_size_of_a_strip_millions_of_pixels_long():
    assert tuple(decoding.target_size(tf.constant([30_000, 3_000_000]), 1024).numpy()) == (10, 1024)


@pytest.mark.parametrize(("longer_side", "ratio"), [(64, 2), (32, 4), (16, 8), (8, 16)])
def test_resizing_by_a_whole_ratio_is_the_mean_of_each_block(longer_side, ratio):
    resized = decode(encode(NOISE, "PNG"), longer_side)
    blocks = NOISE.reshape(96 // ratio, ratio, 128 // ratio, ratio, 3).mean(axis=(1, 3))
    assert np.abs(resized - blocks).max() <= 0.5 + 1e-3
    assert difference(resized, cv2.resize(NOISE, resized.shape[1::-1], interpolation=cv2.INTER_AREA)).max() <= 1


@pytest.mark.parametrize(("shape", "longer_side"), [((96, 128), 50), ((97, 61), 44), ((60, 45), 59), ((50, 113), 28)])
def test_resizing_by_any_ratio_is_close_to_opencv(shape, longer_side):
    noise = NOISE[: shape[0], : shape[1]]
    resized = decode(encode(noise, "PNG"), longer_side)
    reference = cv2.resize(noise, resized.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert difference(resized, reference).max() <= 1
    assert difference(resized, reference).mean() < 0.02


@pytest.mark.parametrize("longer_side", [64, 65, 4096])
def test_a_photo_that_is_small_enough_keeps_its_pixels(longer_side):
    np.testing.assert_array_equal(decode(encode(SMALL, "PNG"), longer_side), SMALL)
    encoded = encode(SMALL, "JPEG", quality=90)
    assert difference(decode(encoded, longer_side), pillow(encoded)).max() <= 1


@pytest.mark.parametrize(
    ("longer_side", "decoded"),
    [(640, 640), (400, 640), (320, 640), (161, 640), (160, 320), (81, 320), (80, 160), (41, 160), (40, 80), (5, 80)],
)
def test_jpegs_are_decoded_at_no_less_than_twice_the_wanted_size(longer_side, decoded):
    photo, size = decoding.decode_jpeg(tf.constant(JPEG), longer_side)
    assert photo.shape == (decoded * 3 // 4, decoded, 3)
    assert size.numpy().tolist() == [480, 640]
    assert decoded == 640 or decoded >= 2 * longer_side


@pytest.mark.parametrize("longer_side", [400, 320, 161, 160, 100, 80, 64, 40, 33])
def test_a_scaled_jpeg_is_close_to_the_full_decode_averaged(longer_side):
    resized = decode(JPEG, longer_side)
    assert max(resized.shape[:2]) == longer_side
    reference = pillow(JPEG).resize(resized.shape[1::-1], Image.Resampling.BOX)
    assert difference(resized, reference).max() <= 6
    assert difference(resized, reference).mean() < 1.2


def test_the_size_of_a_scaled_jpeg_follows_from_its_full_size():
    encoded = encode(cv2.resize(SMOOTH, (643, 429)), "JPEG")  # scaled by 8 it has 81x54 pixels
    assert decode(encoded, 40).shape == (27, 40, 3)  # 429 * 40 / 643 = 26.69; 54 * 40 / 81 = 26.67


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_given_size_is_that_of_the_file(kind):
    encoded = encode(cv2.resize(SMOOTH, (643, 429)), kind)  # a JPEG is decoded at an eighth of it
    photo, size = decoding.decode_photo_and_size(tf.constant(encoded), 40)
    assert size.numpy().tolist() == [429, 643]
    np.testing.assert_array_equal(photo, decode(encoded, 40))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_other_colour_spaces_are_read_as_pillow_does(mode):
    encoded = encode(Image.fromarray(SMALL).convert(mode), "JPEG", quality=95)
    assert difference(decode(encoded, 64), pillow(encoded)).max() <= 1


def on_white(image):
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


GREY = Image.fromarray(SMALL).convert("L")
TRANSPARENT = {
    "RGBA": encode(np.dstack([SMALL, RAMP]), "PNG"),
    "LA": encode(Image.merge("LA", (GREY, Image.fromarray(RAMP))), "PNG"),
    "palette": encode(Image.fromarray(SMALL).quantize(16), "PNG", transparency=bytes(range(0, 256, 16))),
    "colour key": encode(SMALL, "PNG", transparency=tuple(SMALL[0, 0].tolist())),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparent_pngs_are_laid_on_white_as_pillow_does(kind):
    expected = np.asarray(on_white(Image.open(io.BytesIO(TRANSPARENT[kind]))))
    assert (expected == 255).any()
    assert difference(decode(TRANSPARENT[kind], 64), expected).max() <= 1


def test_transparency_is_rounded_to_the_nearest_level():
    alpha = RAMP[..., None] / 255
    exact = SMALL * alpha + 255 * (1 - alpha)
    assert np.abs(decode(TRANSPARENT["RGBA"], 64) - exact).max() <= 0.5 + 1e-6


def test_sixteen_bit_pngs_show_their_upper_byte():
    wide = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    np.testing.assert_array_equal(decode(encode(wide, "PNG"), 64), np.dstack([wide >> 8] * 3))


def test_the_first_frame_of_a_gif_is_taken():
    frames = [Image.fromarray(SMALL[:, ::step]).quantize(32) for step in (1, -1)]
    encoded = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(encoded, 64), pillow(encoded))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_bmps_are_read_as_pillow_does(mode):
    encoded = encode(Image.fromarray(SMALL).convert(mode), "BMP")
    np.testing.assert_array_equal(decode(encoded, 64), pillow(encoded))


def test_a_bmp_with_a_palette_is_read_as_pillow_does_or_refused():
    encoded = encode(Image.fromarray(SMALL).quantize(16), "BMP")
    try:
        decoded = decode(encoded, 64)
    except tf.errors.InvalidArgumentError:
        return
    np.testing.assert_array_equal(decoded, pillow(encoded))


BROKEN = {
    "empty": b"",
    "text": b"<html>not found</html>",
    "start of a JPEG": b"\xff\xd8\xff",
    "half a JPEG": JPEG[: len(JPEG) // 2],
    "start of a PNG": b"\x89PNG\r\n\x1a\n",
    "half a PNG": encode(SMALL, "PNG")[:3000],
    "half a GIF": encode(Image.fromarray(SMALL).quantize(64), "GIF")[:800],
    "half a BMP": encode(SMALL, "BMP")[:3000],
    "WebP with its header cut": b"RIFF\x00\x00\x00\x00WEBP",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_bytes_raise_invalid_argument(kind):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(BROKEN[kind], 32)


def test_eager_graph_and_pipeline_give_the_same_pixels():
    photos = [JPEG, encode(NOISE, "PNG"), TRANSPARENT["LA"], encode(SMALL, "JPEG")]
    dataset = tf.data.Dataset.from_tensor_slices(photos).map(lambda photo: decoding.decode_photo(photo, 50))
    assert dataset.element_spec == tf.TensorSpec([None, None, 3], tf.uint8)
    for photo, mapped in zip(photos, dataset.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(mapped, decode(photo, 50))  # as it is sent, too


def test_records_hold_jpeg_and_png_alone():
    for other in (b"", encode(SMALL, "BMP"), encode(GREY, "GIF"), encode(SMALL, "WEBP")):
        with pytest.raises(tf.errors.InvalidArgumentError, match="neither a JPEG nor a PNG, which records hold"):
            decoding.decode_photo(tf.constant(other), 50)
