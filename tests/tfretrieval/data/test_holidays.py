import re

import pytest

from tfretrieval.data.holidays import read_holidays
from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError

NAMES = ("100000.jpg", "100001.jpg", "100002.jpg", "149900.jpg", "149901.jpg")
PERFECT = "100000.jpg 0 100002.jpg 1 100001.jpg\n149900.jpg 0 149901.jpg\n"


def make(folder, names=NAMES, photos="jpg", images=None, perfect=None, package=""):
    (folder / photos).mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / photos / name).write_bytes(b"readers open no photo")
    (folder / package).mkdir(exist_ok=True)
    if images is not None:
        (folder / package / "holidays_images.dat").write_text(images)
    if perfect is not None:
        (folder / package / "perfect_result.dat").write_text(perfect)
    return folder


def named(found):
    """Each query with its right photos and its junk, by name."""
    database = [entry.photo_id for entry in found.entries if entry.split == "database"]
    queries = [entry.photo_id for entry in found.entries if entry.split == "queries"]
    return {
        query: ({database[row] for row in judged.easy}, {database[row] for row in judged.junk})
        for query, judged in zip(queries, found.judgements, strict=True)
    }


EXPECTED = {
    "100000.jpg": ({"100001.jpg", "100002.jpg"}, {"100000.jpg"}),
    "149900.jpg": ({"149901.jpg"}, {"149900.jpg"}),
}


@pytest.mark.parametrize("photos", ["jpg", "images", "."])
def test_names_tell_the_groups_and_the_queries(tmp_path, photos):
    found = read_holidays(make(tmp_path, photos=photos), SourceOptions())
    assert named(found) == EXPECTED
    assert [entry.photo_id for entry in found.entries] == ["100000.jpg", "149900.jpg", *NAMES]
    folder = tmp_path / photos
    assert found.entries[0] == PhotoEntry("100000.jpg", folder / "100000.jpg", "1000", "queries")
    assert found.entries[-1] == PhotoEntry("149901.jpg", folder / "149901.jpg", "1499", "database")
    assert found.judgements[1] == QueryJudgement(easy=(4,), junk=(3,))
    assert found.protocol == "holidays"
    assert "5 photos (1,491), 2 queries (500)" in found.notes[0]


def test_the_official_files_tell_the_same_and_their_order(tmp_path):
    order = ("149900.jpg", "149901.jpg", "100002.jpg", "100000.jpg", "100001.jpg")
    listed = read_holidays(
        make(tmp_path / "a", images="\n".join(order) + "\n", perfect=PERFECT, package="eval_holidays"), SourceOptions()
    )
    assert named(listed) == EXPECTED
    assert [entry.photo_id for entry in listed.entries] == ["149900.jpg", "100000.jpg", *order]
    result = read_holidays(make(tmp_path / "b", perfect=PERFECT), SourceOptions())
    assert named(result) == EXPECTED
    assert result.entries[2].photo_id == "100000.jpg" and result.entries[3].photo_id == "100002.jpg"
    assert len({listed.sha256, result.sha256, read_holidays(make(tmp_path / "c"), SourceOptions()).sha256}) == 3


def test_photos_beside_those_listed_are_left_alone(tmp_path):
    make(tmp_path, names=(*NAMES, "150000.jpg", "notes.png"), images="\n".join(NAMES))
    assert named(read_holidays(tmp_path, SourceOptions())) == EXPECTED


def test_the_published_counts_leave_no_note(tmp_path):
    sizes = [3] * 491 + [2] * 9  # 500 groups, 1,491 photos
    names = [f"{100000 + 100 * group + photo}.jpg" for group, size in enumerate(sizes) for photo in range(size)]
    assert len(names) == 1491
    found = read_holidays(make(tmp_path, names), SourceOptions())
    assert (len(found.judgements), len(found.entries), found.notes) == (500, 1991, ())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"names": ()}, "names no photo"),
        ({"names": (*NAMES, "a.jpg")}, "names 'a.jpg'; names like 100000.jpg"),
        ({"names": ("100001.jpg", "100002.jpg")}, "the group 1000 has 2 photos and 0 queries; one query, 100000.jpg"),
        ({"names": ("100000.jpg",)}, "the group 1000 has 1 photos and 1 queries"),
        ({"names": ("100000.jpg", "100000.png", "100001.jpg")}, "the group 1000 has 3 photos and 2 queries"),
        ({"images": "100000.jpg\n100000.jpg\n"}, "holidays_images.dat line 2 is '100000.jpg', as on line 1"),
        ({"images": "100000.jpg\n../1.jpg\n"}, "holidays_images.dat line 2 is '../1.jpg'; a photo's name"),
        ({"images": "\n".join((*NAMES, "149902.jpg"))}, "names 6 photos and 1 are not there, first "),
        ({"perfect": "100000.jpg 0 100001.jpg 1\n"}, "perfect_result.dat line 1 has 3 words after '100000.jpg'; pairs"),
        ({"perfect": "100000.jpg x 100001.jpg\n"}, "perfect_result.dat line 1: the rank is 'x'"),
        ({"perfect": "100000.jpg 0 149901.jpg\n"}, "perfect_result.dat line 1 has '149901.jpg' for '100000.jpg'"),
        ({"perfect": PERFECT + PERFECT}, "perfect_result.dat line 3 is '100000.jpg', as on line 1"),
        (
            {"images": "\n".join(NAMES), "perfect": PERFECT.replace(" 0 149901.jpg", "")},
            "disagree in the group 1499, first in 149901.jpg",
        ),
        (
            {"images": "\n".join(NAMES[:3]), "perfect": PERFECT},
            "disagree in the group 1499, first in 149900.jpg",
        ),
    ],
)
def test_a_fault_is_named(tmp_path, options, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        read_holidays(make(tmp_path, **options), SourceOptions())


def test_a_folder_without_photos_and_a_missing_one_are_named(tmp_path):
    with pytest.raises(InputError, match=r"names no photo; a folder with jpg/100000\.jpg"):
        read_holidays(tmp_path, SourceOptions())
    with pytest.raises(InputError, match=r"--input=.*nothing is not a folder; a folder with jpg/100000\.jpg"):
        read_holidays(tmp_path / "nothing", SourceOptions())
