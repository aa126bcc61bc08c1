"""The photos of an index, from records and from folders; and the pictures that are made of them."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from export.search_page import PageError, pictures
from export.search_page.photo_sources import from_folder, from_records
from export.search_page.pictures import LARGE, THUMBNAIL, Pictures, upright, upright_size
from tfretrieval.errors import InputError
from tfretrieval.evaluation.album import Photos


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_records_are_read_in_the_order_of_the_index(record_set, photo_folder):
    ids = list(reversed(record_set.split("database").ids))[:5]
    photos = from_records(record_set.directory, "database", ids)
    assert list(photos.ids) == ids
    for row, photo in enumerate(ids):
        assert photos.read(row) == (photo_folder / photo).read_bytes()
        assert photos.names(row) == (photo.rsplit("/", 1)[0],)


def test_objects_name_their_photos(object_benchmark):
    photos = from_records(object_benchmark.directory, "database", ["empty", "both"])
    assert sorted(photos.names(1)) == ["coin", "key"]
    assert photos.read(1)[:4] == b"\x89PNG"


def test_records_of_other_photos_are_refused(record_set):
    with pytest.raises(InputError, match=r"the split queries lacks 2 of the 2 photos of the index, first 'x.jpg'"):
        from_records(record_set.directory, "queries", ["x.jpg", "y.jpg"])


def test_a_folder_names_its_photos_and_misses_some(photo_folder):
    photos = from_folder(photo_folder, ["old town/gate/photo_0.jpg", "old town/gone.jpg"])
    assert photos.read(0) == (photo_folder / "old town/gate/photo_0.jpg").read_bytes()
    assert photos.read(1) is None
    assert photos.names(0) == ("old town/gate",)


def test_ids_do_not_lead_out_of_the_folder(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"photo")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "photos" / "link.jpg").symlink_to(tmp_path / "photos" / "a.jpg")
    hostile = ["../secret", "x/../../secret", str(tmp_path / "secret"), "..\\secret", "a\0b", "."]
    photos = from_folder(tmp_path / "photos", ["a.jpg", "link.jpg", *hostile])
    assert [photos.read(row) for row in range(len(photos.ids))] == [b"photo", b"photo", *[None] * len(hostile)]


def test_a_wrong_folder_is_told(photo_folder, tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        from_folder(tmp_path / "missing", ["a"])
    with pytest.raises(InputError, match=r"holds no file 'a.jpg', the first photo of the index"):
        from_folder(photo_folder, ["a.jpg"])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright(orientation):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:20, :40, 0] = 255  # stored: red in the upper left
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(Image.fromarray(pixels), "JPEG", exif=exif, quality=95)
    image = upright(file)
    assert upright_size(file) == image.size == ((40, 80) if orientation >= 5 else (80, 40))
    # Where EXIF's orientations put the stored upper left corner.
    corners = {1: "ul", 2: "ur", 3: "lr", 4: "ll", 5: "ul", 6: "ur", 7: "lr", 8: "ll"}
    width, height = image.size
    x = width // 4 if corners[orientation][1] == "l" else 3 * width // 4
    y = height // 4 if corners[orientation][0] == "u" else 3 * height // 4
    assert image.getpixel((x, y))[0] > 200
    assert image.getpixel((width - x, height - y))[0] < 50


def test_pictures_are_made_once_and_bounded(monkeypatch):
    files = [encoded(Image.new("RGB", (2000, 1000), (row, 90, 90))) for row in range(3)]
    reads = []
    photos = Photos(("a", "b", "c"), [""] * 3, lambda row: reads.append(row) or files[row])
    monkeypatch.setattr(pictures, "_KEPT", 2)
    made = Pictures(photos)
    for row in (0, 1, 0, 2, 0, 1):
        image = Image.open(io.BytesIO(made.jpeg(row, THUMBNAIL)))
        assert (image.format, image.size) == ("JPEG", (320, 160))
    assert reads == [0, 1, 2, 1]  # 1 was asked for least recently when 2 came
    assert Image.open(io.BytesIO(made.jpeg(0, LARGE))).size == (1600, 800)


def test_broken_and_missing_indexed_photos_have_statuses():
    made = Pictures(Photos(("a", "b"), ["", ""], lambda row: [None, b"broken"][row]))
    for row, status in ((0, 404), (1, 422)):
        with pytest.raises(PageError) as caught:
            made.jpeg(row, THUMBNAIL)
        assert caught.value.status == status and repr("ab"[row]) in caught.value.message


def test_a_photo_with_too_many_pixels_is_refused_by_its_header():
    huge = bytearray(encoded(Image.new("L", (1, 1))))
    huge[16:24] = (50_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    for read in (upright, upright_size):
        with pytest.raises(PageError, match="The photo has 50000x50000 pixels, more than 100000000"):
            read(bytes(huge))
