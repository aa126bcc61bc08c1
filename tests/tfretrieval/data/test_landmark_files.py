import re

import pytest

from tfretrieval.data.landmark_files import read_ids, read_landmark_list, read_solution
from tfretrieval.errors import InputError

A, B, C, D = (f"{letter}123456789abcdef" for letter in "abcd")


def write(tmp_path, text, name="list.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_both_makes_of_lists_give_photos_with_landmarks(tmp_path):
    expected = [(A, "27"), (B, "27"), (C, "3")]
    train = f'id,url,landmark_id\n{A},http://x/y.jpg,27\n{B},"http://x/a,b.jpg",27\n{C},None,3\n'
    clean = f"landmark_id,images\n27,{A} {B}\n3,{C}\n"
    index = f"id,landmark_id\n{A},27\n{B},27\n{C},3\n"
    for text in (train, clean, index):
        found = list(read_landmark_list(write(tmp_path, text)))
        assert found == expected
        assert found[0][1] is found[1][1]  # one string for each landmark


def test_photos_without_a_landmark_of_version_1_are_left_out(tmp_path):
    text = f"id,url,landmark_id\n{A},http://x,27\n{B},None,None\n"
    assert list(read_landmark_list(write(tmp_path, text))) == [(A, "27")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "lacks the column 'landmark_id'"),
        ("id,url\n", "lacks the column 'landmark_id' in its first line ('id,url')"),
        ("landmark_id,photos\n", "lacks the column 'id'"),
        (f"id,landmark_id\n{A},x\n", "line 2: landmark_id is 'x'; a whole number from 0"),
        (f"id,landmark_id\n{A},27\n{A},28\n", f"line 3: id has '{A}', which stood there before"),
        ("id,landmark_id\n../../a,27\n", "line 2: id is '../../a'; a photo's id"),
        ("id,landmark_id\nab,27\n", "line 2: id is 'ab'; a photo's id"),
        (f"landmark_id,images\n1,{A}\n2,{B} {A}\n", f"line 3: images has '{A}', which stood there before"),
        (f"landmark_id,images\n1,{A} x/y\n", "line 2: images is 'x/y'; a photo's id"),
        (f"landmark_id,images\n1,{A},2\n", "line 2 has 3 fields; 2"),
    ],
)
def test_a_fault_of_a_list_is_named(tmp_path, text, sentence):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=re.escape(f"{path} {sentence}")):
        list(read_landmark_list(path))


def test_ids_have_rows(tmp_path):
    assert read_ids(write(tmp_path, f"id\n{B}\n{A}\n")) == {B: 0, A: 1}
    for text, sentence in (
        ("id\n", "names no photo"),
        (f"id\n{A}\n{A}\n", f"line 3: id is '{A}', which"),
        ("id\n..\n", "line 2: id is '..'"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_ids(write(tmp_path, text))


def test_a_solution_of_recognition(tmp_path):
    text = f"id,landmarks,Usage\n{A},0 012,Public\n{B},,Private\n{C},100,Ignored\n{D},,Ignored\n"
    found = read_solution(write(tmp_path, text), "recognition")
    assert found.truths == {A: ("0", "12"), B: ()}
    assert found.usages == {A: "public", B: "private"}
    assert found.ignored == {C, D}
    assert found.lines == {A: 2, B: 3, C: 4, D: 5}


def test_a_solution_of_retrieval(tmp_path):
    text = f"id,images,Usage\n{A},None,Ignored\n{B},{C} {D},Public\n{D},{C},Private\n"
    found = read_solution(write(tmp_path, text), "retrieval")
    assert found.truths == {B: (C, D), D: (C,)} and list(found.usages.values()) == ["public", "private"]
    assert found.ignored == {A}


@pytest.mark.parametrize(
    ("task", "text", "sentence"),
    [
        ("recognition", "id,images,Usage\n", "lacks the column 'landmarks'"),
        ("retrieval", "id,landmarks,Usage\n", "lacks the column 'images'"),
        ("retrieval", f"id,images\n{A},{B}\n", "lacks the column 'Usage'"),
        ("recognition", "id,landmarks,Usage\n", "has no row that is Public or Private"),
        ("recognition", f"id,landmarks,Usage\n{A},1,Ignored\n", "has no row that is Public or Private"),
        ("recognition", f"id,landmarks,Usage\n{A},1,public\n", "line 2: Usage is 'public'; Public, Private or Ignored"),
        ("recognition", f"id,landmarks,Usage\n{A},1 x,Public\n", "line 2: landmarks is 'x'; a whole number"),
        ("recognition", f"id,landmarks,Usage\n{A},1  2,Public\n", "line 2: landmarks is ''"),
        ("recognition", f"id,landmarks,Usage\n{A},1,Public\n{A},1,Ignored\n", f"line 3: id is '{A}', as on line 2"),
        ("retrieval", f"id,images,Usage\n{A},{B}  {C},Public\n", "line 2: images is ''; a photo's id"),
        ("retrieval", f"id,images,Usage\n,{B},Public\n", "line 2: id is ''; a photo's id"),
    ],
)
def test_a_fault_of_a_solution_is_named(tmp_path, task, text, sentence):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=re.escape(f"{path} {sentence}")):
        read_solution(path, task)
