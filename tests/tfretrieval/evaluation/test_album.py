import base64
import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image

from tfretrieval.data.judgements import UNLABELLED, QueryJudgement
from tfretrieval.data.object_index import SplitObjects
from tfretrieval.data.record_set import Split
from tfretrieval.errors import InputError
from tfretrieval.evaluation.album import BOXED, CROP, WHOLE, Album, Photos

SIDE = 40


def photo(row):
    """A photo of 80 x 60: its left half of a colour of its own, its right half white."""
    pixels = np.full((60, 80, 3), 255, np.uint8)
    pixels[:, :40] = (200 - 40 * row, 40 * row, 90)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def photos(count=4, **fields):
    return Photos([f"photo {row}" for row in range(count)], ["x"] * count, photo, **fields)


def opened(encoded):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")).astype(int)


def test_photos_are_embedded_until_they_are_too_many_and_then_all_lie_in_files(tmp_path):
    shown, album = photos(), Album(SIDE, tmp_path, 2000)
    page = "".join(album.image(shown, row, f"photo {row}") for row in (0, 1))
    assert not album.in_files and album.placed(page) == page and set(album.sources()) == {"p0", "p1"}
    embedded = {key: base64.b64decode(value) for key, value in album.sources().items()}
    album = Album(SIDE, tmp_path, 900)
    page = "".join(album.image(shown, row, 'data-photo="p0"') for row in (0, 1, 2, 0))
    assert album.in_files
    placed = album.placed(page)
    addresses = re.findall(r'<img src="(strips/[0-9a-f]{20}\.jpg)" ', placed)
    assert len(addresses) == 4 and addresses[0] == addresses[3] and len(set(addresses)) == 3
    assert sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "strips").iterdir()) == sorted(set(addresses))
    assert (tmp_path / addresses[1]).read_bytes() == embedded["p1"]
    assert album.sources()["p2"] == addresses[2]
    assert placed.count("data-photo=&quot;p0&quot;") == 4  # a text that looks like a place stays a text
    assert album.placed(page, folder="").count('src="strips/') == 0


def test_without_a_folder_photos_are_embedded_however_many_they_are():
    album = Album(SIDE, None, 10)
    album.image(photos(), 0, "a")
    assert not album.in_files
    with pytest.raises(ValueError, match="no folder"):
        album.to_files()


def test_a_photo_that_is_not_at_hand_is_a_place_that_says_so():
    shown = dataclasses.replace(photos(), read=lambda row: None)
    album = Album(SIDE)
    image = album.image(shown, 0, 'a "b" <c>')
    assert image == (
        '<span class="missing" role="img" aria-label="a &quot;b&quot; &lt;c&gt;; no photo">no photo</span>'
    )
    assert len(album) == 0 and album.key(shown, 0) == ""


def test_a_broken_photo_is_named():
    with pytest.raises(InputError, match="'photo 1' cannot be decoded"):
        Album(SIDE).image(dataclasses.replace(photos(), read=lambda row: b"\xff\xd8broken"), 1, "a")


def test_a_box_is_cut_out_or_drawn():
    album = Album(SIDE)
    shown = photos(boxes=[(0.0, 0.0, 0.5, 1.0), None, (0.999, 0.999, 1.2, 1.0), (0.0, 0.0, 0.0, 0.0)])
    keys = {part: album.key(shown, 0, part) for part in (WHOLE, CROP, BOXED)}
    whole, crop, boxed = (opened(album.sources()[keys[part]]) for part in (WHOLE, CROP, BOXED))
    assert whole.shape == boxed.shape == (30, 40, 3) and crop.shape == (40, 27, 3)
    assert np.abs(crop - (200, 0, 90)).max() < 25  # only the left half
    assert boxed[15, 30].max() < 140 < whole[15, 30].min()  # outside of the box it is dark
    assert np.abs(boxed[15, 10] - whole[15, 10]).max() < 25
    assert boxed[15, 1, 0] > 200 and boxed[15, 1, 2] < 120  # a yellow outline
    assert album.key(shown, 1, CROP) == album.key(shown, 1, WHOLE)  # a photo without a box is whole
    for row in (2, 3):  # a box at the edge, or of no size, still is a pixel
        key = album.key(shown, row, CROP)
        assert opened(album.sources()[key]).shape[:2] == (1, 1)


def split(names, labels, **fields):
    count = len(labels)
    sizes = np.tile(np.array([[60, 80]], np.int32), (count, 1))
    zeros = np.zeros(count, np.int64)
    ids = tuple(f"{name}{row}" for row, name in enumerate("abcdef"[:count]))
    return Split("queries", (), zeros, zeros, zeros, ids, np.array(labels), sizes, **fields)


def test_photos_of_a_split_show_their_classes_the_largest_first_and_no_difficult_ones():
    objects = SplitObjects.of_photos(
        [
            [(0, 0, 0.2, 0.2, 0, 0, ()), (0, 0, 0.9, 0.9, 1, 1, ()), (0, 0, 0.3, 0.3, 1, 2, ())],
            [(0, 0, 0.5, 0.5, 2, 0, ("difficult",)), (0, 0, 0.1, 0.1, 0, 1, ())],
            [(0, 0, 0.5, 0.5, 2, 0, ("difficult",))],
        ]
    )
    shown = Photos.from_split(split(None, [1, 2, 2], objects=objects), ("cat", "dog", "emu"))
    assert shown.shows == [("dog", "cat"), ("cat",), ()]
    assert [shown.label(row) for row in range(3)] == ["dog, cat", "cat", "emu"]
    assert shown.names(0) == ("dog", "cat")


def test_photos_without_a_label_are_called_by_their_id_and_judged_boxes_become_shares():
    judgements = (QueryJudgement((0,), box=(8.0, 6.0, 40.0, 60.0)), QueryJudgement((1,)))
    shown = Photos.from_split(split(None, [0, 1], judgements=judgements), (UNLABELLED, "dome"))
    assert [shown.label(row) for row in (0, 1)] == ["a0", "dome"] and shown.names(0) == ()
    assert shown.box(0) == (0.1, 0.1, 0.5, 1.0) and shown.box(1) is None
