import json

import numpy as np
import pytest

from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError

IDS = ("a.jpg", "folder/with space .jpg", "zeile\u2028trenner", "\u0085next", 'ü,"quoted".png', "form\x0cfeed")
VECTORS = np.random.default_rng(3).normal(size=(len(IDS), 4)).astype(np.float32)


@pytest.fixture
def saved(tmp_path):
    Descriptors(VECTORS, IDS, {"model": "m", "image_size": 362}).save(tmp_path / "d")
    return tmp_path / "d"


def test_saved_descriptors_load_equal(saved):
    loaded = Descriptors.load(saved)
    np.testing.assert_array_equal(loaded.vectors, VECTORS)
    assert loaded.ids == IDS
    assert loaded.meta == {"model": "m", "image_size": 362}
    assert len(loaded) == len(IDS)


def test_the_directory_holds_plain_npy_text_and_json(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["ids.txt", "meta.json", "vectors.npy"]
    np.testing.assert_array_equal(np.load(saved / "vectors.npy"), VECTORS)
    assert (saved / "ids.txt").read_bytes() == "".join(f"{photo}\n" for photo in IDS).encode()
    assert json.loads((saved / "meta.json").read_text()) == {"model": "m", "image_size": 362}


def test_loaded_vectors_are_memory_mapped_and_read_only(saved):
    vectors = Descriptors.load(saved).vectors
    assert isinstance(vectors, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        vectors[0, 0] = 1


def test_loaded_descriptors_can_be_saved_over_themselves(saved):
    Descriptors.load(saved).save(saved)
    np.testing.assert_array_equal(Descriptors.load(saved).vectors, VECTORS)


def test_columns_of_a_larger_matrix_are_saved_by_value(tmp_path):
    wide = np.arange(24, dtype=np.float32).reshape(4, 6)
    Descriptors(wide[:, ::2], tuple("abcd")).save(tmp_path / "d")
    np.testing.assert_array_equal(Descriptors.load(tmp_path / "d").vectors, wide[:, [0, 2, 4]])


def test_no_descriptors_at_all_load_equal(tmp_path):
    Descriptors(np.zeros((0, 4), np.float32), ()).save(tmp_path / "d")
    assert Descriptors.load(tmp_path / "d").ids == ()


@pytest.mark.parametrize("photo", ["a\nb", "a\rb"])
def test_ids_with_a_line_break_are_refused_where_they_are_made(photo):
    with pytest.raises(InputError):
        Descriptors(VECTORS[:1], (photo,))


@pytest.mark.parametrize(
    ("vectors", "ids", "sentence"),
    [
        (VECTORS.astype(np.float64), IDS, r"float64 of shape \(6, 4\); float32 \[N, D\] is wanted"),
        (VECTORS.astype(np.float16), IDS, r"float16"),
        (VECTORS[0], IDS[:4], r"shape \(4,\)"),
        (VECTORS, IDS[:-1], "5 ids stand beside 6 vectors"),
        (VECTORS, (*IDS[:-1], IDS[1]), r"'folder/with space \.jpg' stands twice"),
    ],
)
def test_what_does_not_fit_together_is_refused_where_it_is_made(vectors, ids, sentence):
    with pytest.raises(InputError, match=sentence):
        Descriptors(vectors, ids)


def test_load_names_the_directory_that_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"nowhere is not a directory"):
        Descriptors.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["vectors.npy", "ids.txt", "meta.json"])
def test_load_is_an_input_error_when_a_file_is_missing(saved, name):
    (saved / name).unlink()
    with pytest.raises(InputError, match=str(saved)):
        Descriptors.load(saved)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vectors.npy", b"not numpy"),
        ("vectors.npy", b""),
        ("ids.txt", b"only one\n"),
        ("ids.txt", b"\xff\xfe"),
        ("meta.json", b"{"),
    ],
)
def test_load_names_the_directory_when_a_file_is_broken(saved, name, content):
    (saved / name).write_bytes(content)
    with pytest.raises(InputError, match=str(saved)):
        Descriptors.load(saved)


def test_load_refuses_truncated_vectors_and_pickles(saved):
    whole = (saved / "vectors.npy").read_bytes()
    (saved / "vectors.npy").write_bytes(whole[:-4])
    with pytest.raises(InputError, match="readable"):
        Descriptors.load(saved)
    np.save(saved / "vectors.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(InputError, match="readable"):
        Descriptors.load(saved)


def test_save_refuses_a_directory_of_something_else(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"1")
    with pytest.raises(InputError, match="holds other files"):
        Descriptors(VECTORS, IDS).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_rows_gives_vectors_in_the_order_asked_with_repeats(saved):
    wanted = [IDS[3], IDS[0], IDS[3]]
    rows = Descriptors.load(saved).rows(wanted, "the queries' descriptors")
    np.testing.assert_array_equal(rows, np.stack([VECTORS[IDS.index(photo)] for photo in wanted]))
    assert Descriptors(VECTORS, IDS).rows([], "none").shape == (0, 4)


def test_rows_counts_missing_photos_and_names_the_first(saved):
    with pytest.raises(InputError, match=r"the queries' descriptors lack 2 of 3 photos, first 'x\.jpg'"):
        Descriptors.load(saved).rows([IDS[0], "x.jpg", "y.jpg"], "the queries' descriptors")
