import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.served.odd_photos import broken_photos, odd_photos, upright_pixels
from benchmarks.served.ways_compared import agreement, measure, real_photos
from tfretrieval.errors import InputError

SIDE = 48
GROCERY = Path(__file__).parents[3] / "shared" / "data" / "grocery" / "dataset"


def test_odd_photos_are_described_alike_in_all_ways_and_in_any_company(network, tiny_base, server, tmp_path):
    photos = {**odd_photos(1), **(real_photos(GROCERY, 4) if GROCERY.is_dir() else {})}
    found = measure(network, SIDE, tiny_base / "1", server, photos, 1, tmp_path)
    for what in ("records", "sent", "in_company"):
        assert found[what]["photos"] == len(photos)
        assert found[what]["min_cosine"] >= 0.99999, (what, found[what])
        assert found[what]["next_cosine"] < 0.999, "a photo in another's place would be noticed"
    assert found["broken_taken"] == []


def test_there_are_sixty_of_every_kind():
    photos = odd_photos()
    assert len(photos) == 60
    modes, sizes = set(), set()
    for encoded in photos.values():
        image = Image.open(io.BytesIO(encoded))
        modes.add((image.format, image.mode, getattr(image, "is_animated", False)))
        sizes.add(image.size)
    assert {("JPEG", "CMYK", False), ("JPEG", "L", False), ("PNG", "I;16", False), ("PNG", "P", False)} <= modes
    assert {("PNG", "LA", False), ("PNG", "1", False), ("GIF", "P", True), ("WEBP", "RGB", True)} <= modes
    assert {(1, 1), (1, 5000), (5000, 1)} <= sizes
    for kind in ("JPEG", "PNG", "WebP", "grey JPEG", "grey PNG"):
        turned = [Image.open(io.BytesIO(photos[f"{kind} turned {o}"])).getexif()[0x0112] for o in range(1, 9)]
        assert turned == list(range(1, 9))


def test_upright_pixels_are_those_of_a_photo_that_was_turned_by_hand():
    shown = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: a quarter turn clockwise shows it
    buffer = io.BytesIO()
    Image.fromarray(np.rot90(shown)).save(buffer, "PNG", exif=exif)
    np.testing.assert_array_equal(upright_pixels(buffer.getvalue()), shown)


def test_broken_photos_are_broken():
    assert len(broken_photos()) >= 9
    for encoded in broken_photos().values():
        with pytest.raises(Exception):  # noqa: B017 - Pillow has many
            Image.open(io.BytesIO(encoded)).load()


def test_the_worst_photo_and_way_are_named():
    expected = np.eye(3, dtype=np.float32)
    other = expected.copy()
    other[1] = (0.6, 0.8, 0)
    found = agreement(["a", "b", "c"], expected, {"one": expected, "two": other})
    assert found.worst == "b by two"
    assert found.min_cosine == pytest.approx(0.8)
    with pytest.raises(InputError, match="cannot be compared"):
        agreement(["a", "b", "c"], expected, {"one": expected[:2]})
