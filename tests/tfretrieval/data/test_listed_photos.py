import csv
import hashlib

import pytest

from tfretrieval.data import listed_photos
from tfretrieval.data.sources import PhotoEntry
from tfretrieval.errors import InputError


def test_lines_are_stripped_numbered_and_never_empty(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\n\n  two \nthree".encode())
    assert list(listed_photos.read_lines(tmp_path / "a.txt", "a list")) == [(1, "one"), (3, "two"), (4, "three")]


@pytest.mark.parametrize("reader", [listed_photos.read_lines, listed_photos.csv_columns])
def test_what_is_no_text_is_refused(tmp_path, reader):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    for name in ("a.txt", "missing.txt"):
        with pytest.raises(InputError, match=rf"{name} cannot be read as UTF-8 text .*; a list is wanted"):
            list(reader(tmp_path / name, "a list"))


def test_words_are_as_many_as_columns(tmp_path):
    (tmp_path / "a.txt").write_text("3\nname label\nx 1\n\ny  2\nz\n")
    rows = listed_photos.read_words(tmp_path / "a.txt", ("name", "label"), "a list", skip=2)
    assert [next(rows), next(rows)] == [(3, ["x", "1"]), (5, ["y", "2"])]
    with pytest.raises(InputError, match=r"a\.txt line 6 has 1 words \('z'\); 2, name label, are wanted"):
        next(rows)


def test_csv_rows_have_the_columns_asked_for(tmp_path):
    (tmp_path / "a.csv").write_text('id,url,label\n1,"a,b",x\n\n2,"c\nd",y\n')
    rows = listed_photos.read_csv_rows(tmp_path / "a.csv", ("label", "id"), "a list")
    assert list(rows) == [(2, ["x", "1"]), (5, ["y", "2"])]
    assert listed_photos.csv_columns(tmp_path / "a.csv", "a list") == ["id", "url", "label"]


def test_csv_fields_longer_than_csvs_own_limit_are_read_and_the_limit_is_put_back(tmp_path):
    before = csv.field_size_limit()
    (tmp_path / "a.csv").write_text("id,images\n1," + "0123456789abcdef " * 20_000 + "\n")
    ((_, (images,)),) = listed_photos.read_csv_rows(tmp_path / "a.csv", ("images",), "a list")
    assert len(images.split()) == 20_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"lacks the column 'id' in its first line \(''\); a list with id, label is wanted"),
        ("id,name\n", r"lacks the column 'label' in its first line \('id,name'\)"),
        ("id,label\n1,2,3\n", "line 2 has 3 fields; 2, as in the first line, are wanted"),
        ("id,label\n1,2\n1\n", "line 3 has 1 fields"),
        ("id,label\n1," + "x" * (1 << 24) + "x\n", r"line 2: field larger than field limit .*; a list is wanted"),
    ],
)
def test_a_csv_fault_is_named(tmp_path, text, sentence):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        list(listed_photos.read_csv_rows(tmp_path / "a.csv", ("id", "label"), "a list"))


def test_whole_numbers():
    assert [listed_photos.whole_number("here", text) for text in ("0", "007", "123456789")] == [0, 7, 123456789]
    for text in ("", "-1", "1.0", "x", "²", "1" * 19):
        with pytest.raises(InputError, match=r"here is .*; a whole number from 0 is wanted"):
            listed_photos.whole_number("here", text)
    with pytest.raises(InputError, match="here is '0'; a whole number from 1"):
        listed_photos.whole_number("here", "0", 1)


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "a//b.jpg", "a\\b.jpg", "", "a\tb.jpg"])
def test_names_never_leave_the_folder(name):
    assert listed_photos.photo_name("here", "a b/c.jpg") == "a b/c.jpg"
    with pytest.raises(InputError, match=r"here is .*; a photo's name, below its folder, is wanted"):
        listed_photos.photo_name("here", name)


def test_files_are_found_in_a_folder_first_and_then_below(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").touch()
    assert listed_photos.find_file(tmp_path, "a.txt") is None
    assert listed_photos.need_file(tmp_path, "a.txt", "it", ("none", "sub")) == tmp_path / "sub" / "a.txt"
    (tmp_path / "a.txt").touch()
    assert listed_photos.find_file(tmp_path, "a.txt", ("sub",)) == tmp_path / "a.txt"
    with pytest.raises(InputError, match=r"has no b\.txt in it, and its folders sub; it is wanted"):
        listed_photos.need_file(tmp_path, "b.txt", "it", ("sub",))
    with pytest.raises(InputError, match=r"nothing is not a folder; a folder is wanted"):
        listed_photos.need_folder(tmp_path / "nothing", "a folder")


def test_photos_folder_is_the_one_with_a_photo(tmp_path):
    (tmp_path / "jpg").mkdir()
    assert listed_photos.photos_folder(tmp_path, ("jpg", "images"), ["a.jpg"]) == tmp_path / "jpg"
    (tmp_path / "a.jpg").touch()
    assert listed_photos.photos_folder(tmp_path, ("jpg", "images"), ["a.jpg"]) == tmp_path
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "b.jpg").touch()
    assert listed_photos.photos_folder(tmp_path, ("jpg", "images"), ["a.jpg", "b.jpg"]) == tmp_path / "images"


def test_photos_below_are_those_of_the_first_folder_with_some(tmp_path):
    assert listed_photos.photos_below(tmp_path, ("jpg", "images")) == (tmp_path, [])
    for name in ("b.JPG", "a.png", ".c.jpg", "notes.txt"):
        (tmp_path / name).touch()
    assert listed_photos.photos_below(tmp_path, ("jpg", "images")) == (tmp_path, ["a.png", "b.JPG"])
    (tmp_path / "jpg").mkdir()
    (tmp_path / "images" / "d.jpg").mkdir(parents=True)  # a folder is no photo
    assert listed_photos.photos_below(tmp_path, ("jpg", "images"))[0] == tmp_path
    (tmp_path / "images" / "e.jpg").touch()
    assert listed_photos.photos_below(tmp_path, ("jpg", "images")) == (tmp_path / "images", ["e.jpg"])


def test_missing_photos_are_counted_and_the_first_is_named(tmp_path):
    (tmp_path / "b.jpg").touch()
    entries = [PhotoEntry(name, tmp_path / name, "x", "train") for name in ("a.jpg", "b.jpg", "c.jpg")]
    listed_photos.check_photos("list.txt", entries[1:2])
    with pytest.raises(InputError, match=r"list\.txt names 3 photos and 2 are not there, first .*/a\.jpg; all are"):
        listed_photos.check_photos("list.txt", entries)


def test_notes_tell_counts_that_differ():
    assert listed_photos.count_notes("Set", {"photos": (1491, 1491)}) == ()
    (note,) = listed_photos.count_notes("Set", {"photos": (1000, 1491), "queries": (500, 500)})
    assert "1,000 photos (1,491), 500 queries (500)" in note


def test_hashes_depend_on_content_and_names_not_on_folders(tmp_path):
    for folder, names in (("x", "ab"), ("y", "ba")):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text(name)
    one, same = (listed_photos.sha256_of_files([tmp_path / f / n for n in "ab"]) for f in "xy")
    assert one == same == listed_photos.sha256_of_files([tmp_path / "x" / n for n in "ba"])
    (tmp_path / "y" / "b").write_text("other")
    assert listed_photos.sha256_of_files([tmp_path / "y" / n for n in "ab"]) != one
    assert listed_photos.sha256_of_files([tmp_path / "x" / "a"]) == hashlib.sha256(b"a").hexdigest()
    assert listed_photos.sha256_of_names(["a", "b"]) == hashlib.sha256(b"a\nb\n").hexdigest()
