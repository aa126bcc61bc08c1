import re

import pytest

from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.data.ukbench import read_ukbench
from tfretrieval.errors import InputError


def make(folder, numbers, photos="full", extra=()):
    (folder / photos).mkdir(parents=True, exist_ok=True)
    for name in (*(f"ukbench{number:05d}.jpg" for number in numbers), *extra):
        (folder / photos / name).touch()
    return folder


@pytest.mark.parametrize("photos", ["full", "jpg", "images", "."])
def test_each_photo_is_a_query_and_right_for_itself(tmp_path, photos):
    found = read_ukbench(make(tmp_path, range(8), photos), SourceOptions())
    assert [entry.split for entry in found.entries] == ["queries"] * 8 + ["database"] * 8
    assert [entry.photo_id for entry in found.entries[:8]] == [entry.photo_id for entry in found.entries[8:]]
    assert found.entries[5] == PhotoEntry("ukbench00005.jpg", tmp_path / photos / "ukbench00005.jpg", "1", "queries")
    assert found.judgements == (QueryJudgement((0, 1, 2, 3)),) * 4 + (QueryJudgement((4, 5, 6, 7)),) * 4
    assert (found.protocol, len(found.notes)) == ("ukbench", 1)


def test_the_whole_set_leaves_no_note(tmp_path):
    found = read_ukbench(make(tmp_path, range(10_200)), SourceOptions())
    assert (len(found.judgements), found.notes) == (10_200, ())
    assert found.judgements[10_199].easy == (10_196, 10_197, 10_198, 10_199)


@pytest.mark.parametrize(
    ("numbers", "extra", "sentence"),
    [
        ((), (), "holds no photo; ukbench00000.jpg and the others"),
        (range(4), ("a.jpg", "ukbench1.jpg"), "holds 'a.jpg', and 2 such photos; names like ukbench00000.jpg"),
        ((0, 1, 2, 3, 4, 6, 7, 8), (), "lacks photos of 2 of 3 objects, first ukbench00005.jpg; all four"),
        (range(1, 5), (), "lacks photos of 2 of 2 objects, first ukbench00000.jpg"),
    ],
)
def test_a_fault_is_named(tmp_path, numbers, extra, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        read_ukbench(make(tmp_path, numbers, extra=extra), SourceOptions())
