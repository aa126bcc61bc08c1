"""Odd photos through the exported graph: as the Keras network sees Pillow's pixels of them, in every way to run it."""

import io
import struct
import time
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from export.sent_photos import DEFAULT_LIMITS, PhotoLimits
from export.signatures import ServedDescriptor
from tfretrieval.data import decoding
from tfretrieval.data.photos import prepare_photo
from tfretrieval.errors import InputError
from tfretrieval.layers import GeM, InputScaling

SIDE = 48
RNG = np.random.default_rng(5)


def picture(width=90, height=60):
    coarse = Image.fromarray(RNG.integers(0, 256, (5, 6, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encode(image, image_format, **options):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def turned(orientation, order):
    head = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + head + struct.pack(order + "IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


def odd_photos():
    """60 photos: every orientation in both byte orders, small and long ones, odd colours, animations."""
    rotated = [
        encode(picture(), image_format, exif=turned(orientation, order))
        for image_format in ("JPEG", "PNG", "WEBP")
        for orientation in range(1, 9)
        for order in "<>"
    ]
    alpha = picture().convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(alpha.size))
    others = [
        encode(picture(1, 1), "JPEG"),
        encode(picture(5000, 1), "PNG"),
        encode(picture(1, 5000), "JPEG"),
        encode(Image.fromarray(RNG.integers(0, 65536, (60, 90)).astype(np.uint16)), "PNG"),
        encode(picture().convert("CMYK"), "JPEG"),
        encode(picture(), "JPEG", progressive=True),
        encode(picture().convert("L"), "JPEG"),
        encode(picture().quantize(16), "GIF", save_all=True, append_images=[picture()], transparency=2),
        encode(picture(), "WEBP", save_all=True, append_images=[picture()]),
        encode(alpha, "WEBP"),
        encode(alpha, "PNG"),
        encode(picture().quantize(16), "BMP"),
    ]
    return rotated + others


def by_pillow(encoded):
    """The upright pixels, transparency on white."""
    image = Image.open(io.BytesIO(encoded))
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return np.dstack([(np.asarray(image).astype(int) >> 8).astype(np.uint8)] * 3)
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def resized(pixels):
    size = decoding.target_size(tf.constant(pixels.shape[:2]), SIDE)
    return decoding.resize_photo(tf.constant(pixels), size)


def rows(vectors):
    return np.concatenate([np.asarray(vector) for vector in vectors])


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(InputScaling("torch")(pixels))
    maps = keras.layers.Conv2D(12, 3, 2, padding="same")(maps)
    return keras.Model(pixels, keras.layers.UnitNormalization(dtype="float32")(GeM()(keras.layers.ReLU()(maps))))


@pytest.fixture(scope="module")
def version(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd") / "1"
    served = ServedDescriptor(network, SIDE, "{}", PhotoLimits(max_bytes=100_000, max_pixels=20_000))
    tf.saved_model.save(served, str(folder), signatures=served.functions)
    return folder


@pytest.fixture(scope="module")
def loaded(version):
    """(signature, **inputs) -> outputs, of the SavedModel."""
    signatures = tf.saved_model.load(str(version)).signatures

    def call(signature, **inputs):
        inputs = {name: tf.constant(value) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in signatures[signature](**inputs).items()}

    return call


@pytest.fixture(scope="module")
def session(version):
    """(signature, **inputs) -> outputs, of a session that loaded the SavedModel by its tag, as TensorFlow Serving."""
    opened = tf.compat.v1.Session(graph=tf.Graph())
    with opened.graph.as_default():
        known = tf.compat.v1.saved_model.load(opened, ["serve"], str(version)).signature_def

    def call(signature, **inputs):
        signature = known[signature]
        feeds = {signature.inputs[name].name: value for name, value in inputs.items()}
        return opened.run({name: info.name for name, info in signature.outputs.items()}, feeds)

    return call


WAYS = ["loaded", "session"]


@pytest.fixture(params=WAYS)
def call(request):
    return request.getfixturevalue(request.param)


def test_sixty_odd_photos_in_any_company(call, network):
    photos = odd_photos()
    expected = rows(network(resized(by_pillow(photo))[tf.newaxis], training=False) for photo in photos)
    found = call("serving_default", image_bytes=photos)["descriptors"]
    assert len(photos) == 60
    # A JPEG much larger than wanted is scaled down by its own library, in two steps; other pixels are Pillow's.
    long_jpeg = 50
    others = np.delete(np.arange(60), long_jpeg)
    assert (found * expected).sum(axis=1)[others].min() > 0.99999
    assert (found[long_jpeg] * expected[long_jpeg]).sum() > 0.99
    order = RNG.permutation(60)
    np.testing.assert_allclose(
        call("serving_default", image_bytes=[photos[row] for row in order])["descriptors"], found[order], atol=1e-6
    )
    for row in (0, 11, 48, 50, 55, 56):
        alone = call("serving_default", image_bytes=[photos[row]])["descriptors"]
        np.testing.assert_allclose(alone[0], found[row], atol=1e-6)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_described_as_its_record_is(loaded, network, image_format, orientation):
    """The evaluated photo is the record's, upright; a turned JPEG is written again for it."""
    sent = encode(picture(), image_format, exif=turned(orientation, ">"))
    record = prepare_photo(sent, 1 << 30)
    pixels = decoding.decode_photo(tf.constant(record.encoded), SIDE)
    evaluated = np.asarray(network(pixels[tf.newaxis], training=False))[0]
    found = loaded("serving_default", image_bytes=[sent])["descriptors"][0]
    assert found @ evaluated > (0.99999 if image_format == "PNG" or orientation == 1 else 0.9999)


def crop_by_pillow(encoded, box):
    """The protocol written out: cut by Pillow, the longer side limited to the share that it has of the photo's."""
    whole = Image.fromarray(by_pillow(encoded))
    crop = whole.crop(box)
    limit = min(SIDE, max(1, SIDE * max(crop.size) // max(whole.size)))
    size = decoding.target_size(tf.constant(crop.size[::-1]), limit)
    return decoding.resize_photo(tf.constant(np.asarray(crop)), size)


BOXES = [(10.5, 20.5, 61.5, 50.2), (0, 0, 60, 60), (3.49, 2.51, 59, 33), (-5, 20, 30.4, 120), (70, 100, 80, 130)]


def test_queries_are_cut_out_of_the_upright_photo_as_the_protocol_does(call, network):
    photos, boxes = [], []
    for number, box in enumerate(BOXES * 3):
        image_format = ("PNG", "WEBP", "JPEG")[number % 3]
        photos.append(encode(picture(), image_format, exif=turned(1 + number % 8, "<")))
        boxes.append(box)
    expected = rows(
        network(crop_by_pillow(*pair)[tf.newaxis], training=False) for pair in zip(photos, boxes, strict=True)
    )
    found = call("query", image_bytes=photos, boxes=np.array(boxes, np.float32))["descriptors"]
    assert (found * expected).sum(axis=1).min() > 0.99999
    assert call("query", image_bytes=np.array([], object), boxes=np.zeros((0, 4), np.float32))["descriptors"].shape == (
        0,
        12,
    )


@pytest.mark.parametrize(
    ("boxes", "told"),
    [
        ([[0, 0, 9, 9], [1.1, 0, 1.4, 9]], r"boxes\[1\]: the box \(left, top, right, bottom\) holds no whole pixel"),
        ([[9, 9, 0, 0], [0, 0, 1, 1]], r"boxes\[0\]: the box"),
        ([[0, 0, 9, 9], [0, 0, np.nan, 9]], r"boxes\[1\]: a coordinate is no number from -16777216 to 16777216"),
        ([[-np.inf, 0, 9, 9], [0, 0, 9, 9]], r"boxes\[0\]: a coordinate"),
        ([[0, 0, 9, 9], [0, 0, 300, 300]], r"boxes\[1\]: the box holds more than the 20000 pixels that --max_pixels"),
        ([[0, 0, 9, 9]], "boxes: 1 boxes for 2 photos; one for each is wanted"),
    ],
)
def test_boxes_that_cannot_be_cut_out_are_named(call, boxes, told):
    photos = [encode(picture(), "PNG")] * 2
    with pytest.raises(tf.errors.InvalidArgumentError, match=told):
        call("query", image_bytes=photos, boxes=np.array(boxes, np.float32))


@pytest.mark.parametrize("size", [(60, 90), (48, 48), (20, 31), (1, 700)])
def test_decoded_photos_are_resized_as_encoded_ones(call, network, size):
    images = RNG.integers(0, 256, (5, *size, 3)).astype(np.uint8)
    expected = rows(network(resized(image)[tf.newaxis], training=False) for image in images)
    found = call("images", images=images)["descriptors"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    encoded = [encode(Image.fromarray(image), "PNG") for image in images]
    np.testing.assert_allclose(call("serving_default", image_bytes=encoded)["descriptors"], found, atol=1e-6)


def test_decoded_photos_may_be_none_and_need_pixels(call):
    for empty in ((0, 60, 90, 3), (0, 0, 0, 3)):
        assert call("images", images=np.zeros(empty, np.uint8))["descriptors"].shape == (0, 12)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"images: shape \[2 0 9 3\]; photos of at least a pixel"):
        call("images", images=np.zeros((2, 0, 9, 3), np.uint8))


def png_header(width, height, pixels=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_header(width, height):
    whole = encode(picture(), "JPEG")
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">HH", height, width) + whole[at + 4 :]


def gif_header(width, height):
    whole = encode(picture().quantize(8), "GIF")
    return whole.replace(struct.pack("<HH", 90, 60), struct.pack("<HH", width, height))


BOMB = png_header(30_000, 30_000, zlib.compress(bytes(90_001) * 300, 9))
TOO_LARGE = {
    "PNG": (png_header(50_000, 50_000), "50000x50000 pixels, more than the 20000 that --max_pixels allows"),
    "PNG bomb": (BOMB, "30000x30000 pixels, more than the 20000"),
    "PNG of a few rows": (png_header(20_001, 1), "20001x1 pixels, more than the 20000"),
    "largest PNG": (png_header(2**32 - 1, 2**31 - 1), "4294967295x2147483647 pixels, more"),
    "JPEG": (jpeg_header(50_000, 50_000), "50000x50000 pixels, more than the 20000"),
    "GIF": (gif_header(65_535, 65_535), "65535x65535 pixels, more than the 20000"),
    "WebP": (encode(picture(200, 101), "WEBP"), "200x101 pixels, more than the 20000"),
    "BMP": (encode(picture(200, 101), "BMP"), "200x101 pixels, more than the 20000"),
    "turned": (encode(picture(202, 101), "JPEG", exif=turned(6, "<")), "101x202 pixels, more than the 20000"),
    "bytes": (encode(picture(), "JPEG") + bytes(100_000), r"\d+ bytes, more than the 100000 that --max_bytes allows"),
}


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_what_is_too_large_is_refused_from_its_header_by_its_row(call, kind):
    encoded, told = TOO_LARGE[kind]
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"image_bytes\[1\]: {told}"):
        call("serving_default", image_bytes=[encode(picture(), "PNG"), encoded, b"worse, but later"])


def test_photos_at_the_limits_are_described(call):
    whole = encode(picture(200, 100), "PNG")
    padded = whole + bytes(100_000 - len(whole))
    assert call("serving_default", image_bytes=[whole, padded])["descriptors"].shape == (2, 12)


def test_a_bomb_is_refused_in_milliseconds(session):
    def refuse():
        start = time.perf_counter()
        with pytest.raises(tf.errors.InvalidArgumentError):
            session("serving_default", image_bytes=[BOMB])
        return time.perf_counter() - start

    assert min(refuse() for _ in range(5)) < 0.02  # decoding it takes seconds, and 2.7 GB


def test_limits_are_numbers_above_0():
    assert PhotoLimits(max_bytes=67_108_864, max_pixels=100_000_000) == DEFAULT_LIMITS
    for name in ("max_bytes", "max_pixels"):
        with pytest.raises(InputError, match=f"--{name}=0; 1 or more is wanted"):
            PhotoLimits(**{name: 0})
