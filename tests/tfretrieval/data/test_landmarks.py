import re

import pytest

from tfretrieval.data import landmarks
from tfretrieval.data.judgements import UNLABELLED, QueryJudgement
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError

A, B, C, D = (f"{letter}123456789abcdef" for letter in "abcd")
Q, R, S, T = (f"{letter}edcba9876543210" for letter in "0123")
TRAIN = f"id,url,landmark_id\n{A},http://x/a.jpg,27\n{B},http://x/b.jpg,3\n{C},http://x/c.jpg,27\n"
CLEAN = f"landmark_id,images\n27,{C} {A}\n"
INDEX = f"id\n{A}\n{B}\n{C}\n"
RETRIEVAL = f"id,images,Usage\n{Q},{C} {A},Public\n{R},None,Ignored\n{S},{B},Private\n"
RECOGNITION = f"id,landmarks,Usage\n{Q},27,Public\n{R},,Ignored\n{S},,Private\n{T},3 99,Private\n"
LABELS = f"id,landmark_id\n{A},500\n{B},9\n{C},500\n"


def make(folder, photos, hashed=True, **lists):
    for name, text in lists.items():
        path = folder / f"{name.replace('__', '/')}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for split, ids in photos.items():
        for photo in ids:
            path = folder / split / (f"{photo[0]}/{photo[1]}/{photo[2]}" if hashed else ".") / f"{photo}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return folder


@pytest.mark.parametrize("listed", ["train", "metadata__train", "train__train"])
def test_version_2_is_read_in_the_lists_order_with_folders_of_three_characters(tmp_path, listed):
    make(tmp_path, {"train": (A, B, C)}, **{listed: TRAIN})
    assert landmarks.read_gldv2(tmp_path, SourceOptions()) == [
        PhotoEntry(A, tmp_path / f"train/a/1/2/{A}.jpg", "27", "train"),
        PhotoEntry(B, tmp_path / f"train/b/1/2/{B}.jpg", "3", "train"),
        PhotoEntry(C, tmp_path / f"train/c/1/2/{C}.jpg", "27", "train"),
    ]


def test_the_clean_list_and_one_of_another_name_are_read(tmp_path):
    make(tmp_path, {"train": (A, C)}, train_clean=CLEAN, revisited=f"id,landmark_id\n{A},27\n", train=TRAIN)
    found = landmarks.read_gldv2_clean(tmp_path, SourceOptions())
    assert [(entry.photo_id, entry.instance) for entry in found] == [(C, "27"), (A, "27")]
    for list_name, ids in (("revisited.csv", [A]), ("train.csv", [A, B, C])):
        found = landmarks.read_gldv2_clean(tmp_path, SourceOptions(photo_list=list_name))
        assert [entry.photo_id for entry in found] == ids


def test_version_1_lies_in_one_folder_and_may_lack_photos(tmp_path):
    make(tmp_path, {"train": (A,)}, hashed=False, train=TRAIN + f"{D},None,None\n")
    found = landmarks.read_gldv1(tmp_path, SourceOptions())
    assert [entry.path for entry in found] == [tmp_path / f"train/{photo}.jpg" for photo in (A, B, C)]


def test_photos_may_lie_elsewhere(tmp_path):
    make(tmp_path / "lists", {}, train=TRAIN)
    make(tmp_path / "disk", {"train": (A, B, C)})
    found = landmarks.read_gldv2(tmp_path / "lists", SourceOptions(photos_root=str(tmp_path / "disk")))
    assert found[0].path == tmp_path / f"disk/train/a/1/2/{A}.jpg"
    with pytest.raises(InputError, match=r"lists/train is not a folder; the photos, as train/0/1/2/"):
        landmarks.read_gldv2(tmp_path / "lists", SourceOptions())


def test_retrieval_has_queries_in_two_groups_and_rows_of_the_index(tmp_path):
    make(tmp_path, {"index": (A, B, C), "test": (Q, S)}, index=INDEX, **{"retrieval_solution_v2.1": RETRIEVAL})
    found = landmarks.read_gldv2_retrieval(tmp_path, SourceOptions())
    assert found.judgements == (QueryJudgement((2, 0), group="public"), QueryJudgement((1,), group="private"))
    assert found.entries[0] == PhotoEntry(Q, tmp_path / f"test/0/e/d/{Q}.jpg", UNLABELLED, "queries")
    assert [entry.photo_id for entry in found.entries] == [Q, S, A, B, C]
    assert found.protocol == "landmarks_retrieval"
    assert "1 public queries (379), 1 private queries (750), 3 index photos (761,757)" in found.notes[0]


def test_index_photos_have_their_landmarks_where_these_are_told(tmp_path):
    lists = {
        "metadata__index": INDEX,
        "metadata__index_image_to_landmark": LABELS,
        "ground_truth__retrieval_solution_v2.1": RETRIEVAL,
    }
    make(tmp_path, {"index": (A, B, C), "test": (Q, S)}, **lists)
    found = landmarks.read_gldv2_retrieval(tmp_path, SourceOptions())
    assert [entry.instance for entry in found.entries] == ["500", "9", "500", "9", "500"]


def test_recognition_judges_by_landmark_and_keeps_photos_without_one(tmp_path):
    photos = {"train": (A, B, C), "test": (Q, S, T)}
    make(tmp_path, photos, train=TRAIN, train_clean=CLEAN, **{"recognition_solution_v2.1": RECOGNITION})
    found = landmarks.read_gldv2_recognition(tmp_path, SourceOptions())
    assert found.judgements == (
        QueryJudgement((0, 2), group="public"),
        QueryJudgement((), group="private"),
        QueryJudgement((1,), group="private"),
    )
    assert [entry.photo_id for entry in found.entries] == [Q, S, T, A, B, C]
    assert [entry.instance for entry in found.entries[:3]] == ["27", landmarks.NO_LANDMARK, "3"]
    assert found.protocol == "landmarks_recognition"
    assert len(found.notes) == 1 and "4 test photos (117,577)" in found.notes[0]
    clean = landmarks.read_gldv2_recognition(tmp_path, SourceOptions(photo_list="train_clean.csv"))
    assert clean.judgements[0].easy == (0, 1) and clean.judgements[2].easy == ()
    assert clean.notes[1].startswith("1 test photos show landmarks of which train_clean.csv has no photo")
    assert clean.sha256 != found.sha256


@pytest.mark.parametrize(
    ("photos", "lists", "sentence"),
    [
        ({}, {"retrieval_solution_v2.1": RETRIEVAL}, "has no index.csv in it, and its folders metadata, ground_truth"),
        ({}, {"index": INDEX}, "has no retrieval_solution_v2.1.csv in it"),
        (
            {"index": (A, B, C), "test": (Q, S)},
            {"index": f"id\n{A}\n{C}\n", "retrieval_solution_v2.1": RETRIEVAL},
            f"retrieval_solution_v2.1.csv line 4: images has '{B}', which is not in ",
        ),
        (
            {"index": (A, B), "test": (Q,)},
            {"index": INDEX, "retrieval_solution_v2.1": RETRIEVAL},
            "names 5 photos and 2 are not there, first ",
        ),
        (
            {"index": (A, B, C)},
            {"index": INDEX, "retrieval_solution_v2.1": RETRIEVAL},
            "test is not a folder; the photos, as test/0/1/2/0123456789abcdef.jpg",
        ),
    ],
)
def test_a_fault_of_retrieval_is_named(tmp_path, photos, lists, sentence):
    make(tmp_path, photos, **lists)
    with pytest.raises(InputError, match=re.escape(sentence)):
        landmarks.read_gldv2_retrieval(tmp_path, SourceOptions())


def test_missing_lists_and_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"has no train_clean\.csv in it"):
        landmarks.read_gldv2_clean(tmp_path, SourceOptions())
    with pytest.raises(InputError, match=r"nothing is not a folder; a folder with train\.csv and train"):
        landmarks.read_gldv2(tmp_path / "nothing", SourceOptions())
    make(tmp_path, {"train": (A,)}, train="id,landmark_id\n")
    with pytest.raises(InputError, match=r"train\.csv names no photo; a line for each, or for each landmark"):
        landmarks.read_gldv2(tmp_path, SourceOptions())
    make(tmp_path, {"train": (A, B, C)}, train=TRAIN)
    with pytest.raises(InputError, match=r"has no recognition_solution_v2\.1\.csv in it"):
        landmarks.read_gldv2_recognition(tmp_path, SourceOptions())
