import copy
import pickle

import numpy as np
import pytest
from scipy.io import savemat

from tfretrieval.data.ground_truth_lists import is_photo_name, read_ground_truth_lists
from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.errors import InputError

REVISITED = {"easy": "easy", "hard": "hard", "junk": "junk"}
LISTS = {
    "imlist": ["a_000001", "b_000002", "köln", "d", "e"],
    "qimlist": ["q_1", "q_2", "q_3"],
    "gnd": [
        {"bbx": [136.5, 34.1, 648.5, 955.7], "easy": [4, 0], "hard": [1], "junk": [2, 3]},
        {"bbx": [0, 5, 714, 1000], "easy": [], "hard": [3, 3, 1], "junk": []},
        {"bbx": [1, 2, 3, 4], "easy": [2], "hard": [], "junk": [2]},
    ],
}
EXPECTED = (
    QueryJudgement((4, 0), (1,), (2, 3), (136.5, 34.1, 648.5, 955.7)),
    QueryJudgement((), (3, 3, 1), (), (0.0, 5.0, 714.0, 1000.0)),
    QueryJudgement((2,), (), (2,), (1.0, 2.0, 3.0, 4.0)),
)


def read(path, fields=REVISITED):
    return read_ground_truth_lists(path, fields, "the ground truth of toys")


def write(tmp_path, content, protocol=3):
    path = tmp_path / "gnd_toys.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def matlab(content):
    """The same lists as MATLAB has them: cell arrays of names, and structures with rows of doubles from 1."""
    kinds = [(name, object) for name in content["gnd"][0]]
    gnd = np.zeros((1, len(content["gnd"])), kinds)
    for query, entry in enumerate(content["gnd"]):
        for name, value in entry.items():
            gnd[name][0, query] = np.array(value, float)[None] + (name != "bbx")
    cells = {name: np.array(content[name], object)[:, None] for name in ("imlist", "qimlist")}
    return {**cells, "gnd": gnd, "version": "1"}


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_read_as_it_is_with_repetitions_and_overlaps(tmp_path, protocol):
    found = read(write(tmp_path, LISTS, protocol))
    assert (found.imlist, found.qimlist) == (tuple(LISTS["imlist"]), tuple(LISTS["qimlist"]))
    assert found.judgements == EXPECTED


def test_a_matlab_file_counts_from_1_and_says_the_same(tmp_path):
    savemat(tmp_path / "gnd_toys.mat", matlab(LISTS))
    found = read(tmp_path / "gnd_toys.mat")
    assert (found.imlist, found.qimlist) == (tuple(LISTS["imlist"]), tuple(LISTS["qimlist"]))
    assert found.judgements == EXPECTED


def test_a_matlab_file_of_one_photo_and_one_query_is_read(tmp_path):
    one = {"imlist": ["a"], "qimlist": ["q"], "gnd": [{"bbx": [0, 0, 9, 9], "easy": [0], "hard": [], "junk": []}]}
    savemat(tmp_path / "gnd_toys.mat", matlab(one))
    found = read(tmp_path / "gnd_toys.mat")
    assert (found.imlist, found.qimlist) == (("a",), ("q",))
    assert found.judgements == (QueryJudgement((0,), box=(0.0, 0.0, 9.0, 9.0)),)


def test_older_fields_are_taken_for_grades_and_junk_may_be_absent(tmp_path):
    content = {
        **LISTS,
        "gnd": [{"bbx": None, "ok": [1, 2]}, {"bbx": None, "ok": [], "junk": [4]}, {"bbx": None, "ok": []}],
    }
    found = read(write(tmp_path, content), {"ok": "easy", "junk": "junk"})
    assert found.judgements == (QueryJudgement((1, 2)), QueryJudgement((), junk=(4,)), QueryJudgement(()))


def changed(name, value):
    return {**copy.deepcopy(LISTS), name: value}


def query(number, **fields):
    content = copy.deepcopy(LISTS)
    content["gnd"][number] |= fields
    return content


def without(name):
    content = copy.deepcopy(LISTS)
    del content["gnd"][1][name]
    return content


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1], " holds a list; the ground truth of toys, which is a dictionary, is wanted."),
        ({"imlist": ["a"]}, " lacks the field 'qimlist'; it holds 'imlist'."),
        (changed("imlist", "abc"), ": imlist is a str; a list is wanted."),
        (changed("imlist", []), ": imlist is empty; "),
        (changed("imlist", ["a", "../../etc/x"]), ": imlist[1] is '../../etc/x'; a photo's name"),
        (changed("imlist", ["a", 5]), ": imlist[1] is 5; "),
        (changed("qimlist", ["q", "r", "q"]), ": qimlist[2] is 'q', as "),
        (changed("gnd", LISTS["gnd"][:2]), ": gnd has 2 entries for 3 of qimlist; "),
        (changed("gnd", [1, 2, 3]), ": gnd[0] (q_1) is a int; a dictionary"),
        (without("hard"), ": gnd[1] (q_2) lacks the field 'hard'; "),
        (without("bbx"), ": gnd[1] (q_2) lacks the field 'bbx'; "),
        (query(2, easy=[1, 5]), ": gnd[2] (q_3): easy[1] is 5; a row of the database, 0 to 4, is wanted."),
        (query(2, junk=[-1]), ": gnd[2] (q_3): junk[0] is -1; "),
        (query(2, hard=[1.0]), ": gnd[2] (q_3): hard[0] is 1.0; "),
        (query(2, hard=[True]), ": gnd[2] (q_3): hard[0] is True; "),
        (query(2, hard=3), ": gnd[2] (q_3): hard is 3; a list of rows"),
        (query(0, bbx=[1, 2, 3]), ": gnd[0] (q_1): bbx is [1, 2, 3]; four numbers"),
        (query(0, bbx=[5, 2, 3, 4]), ": gnd[0] (q_1): bbx is [5, 2, 3, 4]; "),
        (query(0, bbx=[1, 2, float("nan"), 4]), ": gnd[0] (q_1): bbx is [1, 2, nan, 4]; "),
        (query(0, bbx="none"), ": gnd[0] (q_1): bbx is 'none'; "),
    ],
)
def test_a_fault_is_named_by_query_field_and_place(tmp_path, content, sentence):
    path = write(tmp_path, content)
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}{sentence}") and str(error.value).endswith(".")


def test_a_class_in_a_pickle_is_not_imported(tmp_path):
    with pytest.raises(InputError, match="asks for the global"):
        read(write(tmp_path, changed("gnd", np.zeros(3))))


def test_faults_of_matlab_files_count_from_1(tmp_path):
    path = tmp_path / "gnd_toys.mat"
    content = copy.deepcopy(LISTS)
    content["gnd"][1]["hard"][0] = 5  # becomes 6
    savemat(path, matlab(content))
    with pytest.raises(InputError, match=r"gnd\[2\] \(q_2\): hard\[0\] is 6; a row of the database, 1 to 5"):
        read(path)
    content["gnd"][1]["hard"][0] = -1
    savemat(path, matlab(content))
    with pytest.raises(InputError, match=r"hard\[0\] is 0; a row of the database, 1 to 5"):
        read(path)
    content["gnd"][1]["hard"][0] = 0.5
    savemat(path, matlab(content))
    with pytest.raises(InputError, match=r"hard\[0\] is 1.5; "):
        read(path)


@pytest.mark.parametrize("data", [b"", b"MATLAB 5.0 MAT-file, cut short", b"\x89HDF\r\n\x1a\n" + bytes(600)])
def test_a_broken_matlab_file_is_named(tmp_path, data):
    (tmp_path / "gnd_toys.mat").write_bytes(data)
    with pytest.raises(InputError, match=r"gnd_toys.mat (is not read as a MATLAB file|lacks the field)"):
        read(tmp_path / "gnd_toys.mat")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "absent.mat")


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/../b", "/etc", "a//b", "a\\b", "a\nb", "c:x", 5, None, b"a"])
def test_names_that_are_no_files_below_a_folder_are_told(name):
    assert not is_photo_name(name)
    assert is_photo_name("00/ab cd.jpg")
