import re

import pytest

from tfretrieval.data.copydays import CROPS, QUALITIES, read_copydays
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError


def make(folder, **blocks):
    for block, names in blocks.items():
        place = folder / block.replace("__", "/")
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            (place / name).touch()
    return folder


ORIGINALS = ("200000.jpg", "200100.jpg")
STRONG = ("200001.jpg", "200101.jpg", "200102.jpg")


def blocks_of(found):
    """Each block's queries, with the names of their originals."""
    database = [entry.photo_id for entry in found.entries if entry.split == "database"]
    queries = [entry.photo_id for entry in found.entries if entry.split == "queries"]
    blocks = {}
    for query, judged in zip(queries, found.judgements, strict=True):
        blocks.setdefault(judged.group, {})[query] = [database[row] for row in judged.easy]
    return blocks


def test_copies_find_their_originals_block_by_block(tmp_path):
    make(tmp_path, original=ORIGINALS, strong=STRONG, jpegqual__3=ORIGINALS, crops__80=("200101.jpg",))
    found = read_copydays(tmp_path, SourceOptions())
    assert blocks_of(found) == {
        "strong": {
            "strong/200001.jpg": ["original/200000.jpg"],
            "strong/200101.jpg": ["original/200100.jpg"],
            "strong/200102.jpg": ["original/200100.jpg"],
        },
        "jpegqual_3": {
            "jpegqual/3/200000.jpg": ["original/200000.jpg"],
            "jpegqual/3/200100.jpg": ["original/200100.jpg"],
        },
        "crops_80": {"crops/80/200101.jpg": ["original/200100.jpg"]},
    }
    assert found.entries[0] == PhotoEntry("strong/200001.jpg", tmp_path / "strong/200001.jpg", "2000", "queries")
    assert found.protocol == "copydays"
    different, absent = found.notes
    assert "2 originals (157), 3 strong (229), 2 jpegqual_3 (157), 1 crops_80 (157)" in different
    assert absent.startswith("Copydays without the blocks jpegqual_5, ") and "crops_10" in absent


@pytest.mark.parametrize(
    ("original", "strong", "jpeg", "crops"),
    [
        ("original", "strong", "jpeg/jpegqual/3", "crop/crops/10"),
        ("copydays_original", "copydays_strong", "copydays_jpeg/3", "copydays_crop/crops/10"),
        ("copydays_original/original", "copydays_strong/strong", "jpeg/3", "crop/10"),
    ],
)
def test_folders_named_after_the_archives_are_found(tmp_path, original, strong, jpeg, crops):
    make(tmp_path, **{original: ORIGINALS, strong: STRONG, jpeg: ORIGINALS, crops: ORIGINALS})
    assert list(blocks_of(read_copydays(tmp_path, SourceOptions()))) == ["strong", "jpegqual_3", "crops_10"]


def test_the_whole_set_leaves_no_note(tmp_path):
    originals = [f"{200000 + 100 * group}.jpg" for group in range(157)]
    strong = [f"{200001 + 100 * group + copy}.jpg" for group in range(157) for copy in range(2)][:229]
    graded = {f"jpegqual__{quality}": originals for quality in QUALITIES} | {
        f"crops__{crop}": originals for crop in CROPS
    }
    found = read_copydays(make(tmp_path, original=originals, strong=strong, **graded), SourceOptions())
    assert found.notes == ()
    assert (len(found.judgements), len(found.entries)) == (229 + 18 * 157, 229 + 19 * 157)


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        ({"strong": STRONG}, "has no folder original with photos; Copydays' 157"),
        ({"original": ORIGINALS}, "has no folder with copies: strong, jpegqual/3, crops/10"),
        ({"original": ("200000.jpg", "200001.jpg"), "strong": STRONG}, "have the same hundreds; one original"),
        ({"original": ("200000.jpg",), "strong": STRONG}, "strong/200101.jpg has no original 200100.jpg"),
        ({"original": ("a.jpg",), "strong": STRONG}, "original holds 'a.jpg'; names like 200000.jpg"),
    ],
)
def test_a_fault_is_named(tmp_path, blocks, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        read_copydays(make(tmp_path, **blocks), SourceOptions())
