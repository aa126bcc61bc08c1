import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfretrieval.data import decoding, query_crops
from tfretrieval.data.judgements import JudgedPhotos, QueryJudgement
from tfretrieval.data.query_crops import QUERY_CROPS, crop_limit, cropped_photos, encoded_crops, pixel_window
from tfretrieval.data.records import decode_record
from tfretrieval.data.sources import PhotoEntry
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.errors import InputError

SIDE = 40
# Boxes of photos of 64 x 96 or 96 x 64 pixels: halves, the whole photo, none, and some that reach beyond it.
BOXES = (
    (10.5, 20.5, 31.5, 50.2),
    (0, 0, 64, 96),
    None,
    (3.49, 2.51, 90, 60),
    (-5, 40, 30.4, 120),
    (70, 100, 80, 130),
    (60.2, 90.4, 61.4, 91.4),
)


@pytest.fixture(scope="module")
def queries(tmp_path_factory):
    """A split of queries, JPEG and PNG in turn."""
    folder, rng = tmp_path_factory.mktemp("queries"), np.random.default_rng(0)
    entries = []
    for number in range(len(BOXES)):
        size = (64, 96) if number == 3 else (96, 64)
        coarse = Image.fromarray(rng.integers(0, 256, (7, 6, 3), np.uint8))
        path = folder / f"{number}.{'png' if number % 2 else 'jpg'}"
        coarse.resize(size[::-1], Image.Resampling.BICUBIC).save(path)
        entries.append(PhotoEntry(f"q{number}", path, "-", "queries"))
    entries.append(PhotoEntry("d", entries[0].path, "-", "database"))
    judged = JudgedPhotos(tuple(entries), tuple(QueryJudgement((0,), box=box) for box in BOXES), "revisited", "00")
    made, _ = write_record_set(entries, folder / "set", WriteOptions("q", shards=2, judged=judged))
    return made.splits["queries"]


def seen_by_network(split, how):
    """The photos and crops by row, which are of the sizes foreseen."""
    photos = cropped_photos(split, SIDE, how)
    found = {row: photos.photo(tf.constant(row, tf.int64)).numpy() for row in range(len(photos))}
    assert [photo.shape[:2] for photo in found.values()] == [tuple(size) for size in photos.sizes.tolist()]
    return found


def expected(split, row, limit):
    """The crop that Pillow cuts, resized as photos are to a limit written out from the definition."""
    photo = decode_record(split.read(row)).photo
    pixels = decoding.decode_photo(tf.constant(photo.encoded), 1 << 20).numpy()
    box = BOXES[row]
    if box is None:
        return decoding.decode_photo(tf.constant(photo.encoded), SIDE).numpy()
    crop = Image.fromarray(pixels).crop(box)
    longest = {"scaled": int(SIDE * max(crop.size) / max(photo.height, photo.width)), "unscaled": SIDE}[limit]
    buffer = io.BytesIO()
    crop.save(buffer, "PNG")
    return decoding.decode_photo(tf.constant(buffer.getvalue()), min(SIDE, longest)).numpy()


@pytest.mark.parametrize("how", ["scaled", "unscaled"])
def test_crops_are_those_of_pillow_resized_as_photos_are(queries, how):
    found = seen_by_network(queries, how)
    assert sorted(found) == list(range(len(BOXES)))
    for row, photo in found.items():
        np.testing.assert_array_equal(photo, expected(queries, row, how))
    assert max(found[1].shape) == SIDE  # the whole photo
    assert max(found[0].shape[:2]) == (SIDE * 30 // 96 if how == "scaled" else 30)


@pytest.mark.parametrize("how", QUERY_CROPS)
def test_what_goes_to_a_server_is_what_a_network_sees(queries, how):
    seen = seen_by_network(queries, how)
    sent = list(encoded_crops(queries, SIDE, how))
    for row, encoded in enumerate(sent):
        np.testing.assert_array_equal(decoding.decode_photo(tf.constant(encoded), SIDE).numpy(), seen[row])
    original = [decode_record(queries.read(row)).photo.encoded for row in range(len(queries))]
    assert [row for row in range(len(queries)) if sent[row] == original[row]] == (
        [2] if how != "none" else list(range(7))
    )


def test_photos_without_boxes_stay_as_they_are(record_set):
    split = record_set.splits["queries"]
    for how in QUERY_CROPS:
        found = seen_by_network(split, how)
        for row, encoded in enumerate(encoded_crops(split, None, how)):
            assert encoded == decode_record(split.read(row)).photo.encoded
            np.testing.assert_array_equal(found[row], decoding.decode_photo(tf.constant(encoded), SIDE).numpy())


def test_a_model_that_does_not_tell_its_size_gets_crops_of_their_own_size(queries):
    with pytest.raises(InputError, match="--query_crop=scaled needs the model's image size"):
        next(encoded_crops(queries, None, "scaled"))
    crops = [Image.open(io.BytesIO(encoded)).size for encoded in encoded_crops(queries, None, "unscaled")]
    assert crops[0] == Image.new("RGB", (64, 96)).crop(BOXES[0]).size and crops[4] == (35, 80)


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((0.5, 1.5, 2.5, 3.5), (0, 2, 2, 4)),
        ((136.5, 34.1, 648.5, 955.7), (136, 34, 648, 956)),
        ((-0.6, -2.5, 3, 4), (-1, -2, 3, 4)),
    ],
)
def test_windows_are_those_of_pillow(box, window):
    assert pixel_window(box) == window
    assert Image.new("L", (9, 9)).crop(box).size == (window[2] - window[0], window[3] - window[1])


@pytest.mark.parametrize("box", [(1.1, 0, 1.4, 9), (0, 0.6, 9, 1.2), (0, 0, 1e5, 1e5)])
def test_boxes_without_a_pixel_or_of_too_many_are_refused(box, queries):
    with pytest.raises(ValueError, match=r"holds (no whole|more than)"):
        pixel_window(box)
    judgements = (QueryJudgement((0,), box=box), *queries.judgements[1:])
    changed = dataclasses.replace(queries, judgements=judgements)
    with pytest.raises(InputError, match="the query 'q0' cannot be cut out"):
        cropped_photos(changed, SIDE, "scaled")


def test_limits_by_hand():
    # Of the literature's 1,024 pixels: 922 of 1,024 pixels of a photo stay, and 700 of 2,048 become 350.
    assert crop_limit((136, 34, 648, 956), (1024, 768), 1024, "scaled") == 922
    assert crop_limit((0, 0, 500, 700), (1536, 2048), 1024, "scaled") == 350
    assert crop_limit((0, 0, 501, 701), (1536, 2048), 1024, "scaled") == 350
    assert crop_limit((0, 0, 500, 700), (1536, 2048), 1024, "unscaled") == 1024
    assert crop_limit((0, 0, 1, 1), (1536, 2048), 1024, "scaled") == 1
    assert crop_limit((0, 0, 900, 700), (48, 64), 1024, "scaled") == 1024
    assert query_crops.QUERY_CROPS == ("scaled", "unscaled", "none")
