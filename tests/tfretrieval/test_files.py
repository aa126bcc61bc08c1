import hashlib
import math
import re

import pytest

from tfretrieval import files
from tfretrieval.errors import InputError


def test_sha256_gives_the_published_value_for_abc(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_sha256_of_tree_hashes_names_and_contents_in_sorted_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two").write_bytes(b"2")
    (tmp_path / "a").write_bytes(b"1")
    lines = "".join(f"{name}\0{hashlib.sha256(data).hexdigest()}\n" for name, data in (("a", b"1"), ("b/two", b"2")))
    assert files.sha256_of_tree(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("change", ["content", "name", "place"])
def test_sha256_of_tree_notices_every_change(tmp_path, change):
    (tmp_path / "sub").mkdir()
    file = tmp_path / "file"
    file.write_bytes(b"1")
    before = files.sha256_of_tree(tmp_path)
    if change == "content":
        file.write_bytes(b"2")
    else:
        file.rename(tmp_path / ("other" if change == "name" else "sub/file"))
    assert files.sha256_of_tree(tmp_path) != before


def test_write_text_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    files.write_text(tmp_path / "a.txt", "one")
    files.write_text(tmp_path / "a.txt", "zwölf\u2028\n")
    assert (tmp_path / "a.txt").read_bytes() == "zwölf\u2028\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_json_round_trip_keeps_order_and_unicode(tmp_path):
    value = {"z": 1, "a": [1.5, None, "Köln"], "m": {"y": True, "b": 2}}
    files.write_json(tmp_path / "v.json", value)
    read = files.read_json(tmp_path / "v.json", "a value")
    assert read == value
    assert list(read) == ["z", "a", "m"]
    assert "Köln" in (tmp_path / "v.json").read_text(encoding="utf-8")


def test_write_json_refuses_nan_and_keeps_the_earlier_file(tmp_path):
    files.write_json(tmp_path / "v.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "v.json", {"a": math.nan})
    assert files.read_json(tmp_path / "v.json", "a value") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "is missing"),
        (b"{", "cannot be read as JSON"),
        (b"", "cannot be read as JSON"),
        (b"\xff\xfe{}", "cannot be read as JSON"),
        (b"[1]", "holds a JSON list"),
        (b"3", "holds a JSON int"),
    ],
)
def test_read_json_names_the_file_what_it_found_and_what_it_wants(tmp_path, content, found):
    path = tmp_path / "v.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{re.escape(str(path))} {found}.*a value") as caught:
        files.read_json(path, "a value")
    assert "\n" not in str(caught.value)


def test_read_json_of_a_directory_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        files.read_json(tmp_path, "a value")


def test_atomic_directory_appears_only_when_the_block_ends(tmp_path):
    output = tmp_path / "new" / "deeper" / "output"
    with files.atomic_directory(output, "marker") as partial:
        (partial / "marker").write_text("1")
        assert not output.exists()
        assert partial.parent == output.parent
    assert (output / "marker").read_text() == "1"
    assert [path.name for path in output.parent.iterdir()] == ["output"]
    assert output.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_atomic_directory_leaves_what_was_there_when_the_block_fails(tmp_path, earlier, error):
    output = tmp_path / "output"
    if earlier:
        output.mkdir()
        (output / "marker").write_text("earlier")
    with pytest.raises(error), files.atomic_directory(output, "marker") as partial:
        (partial / "marker").write_text("half")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == (["output"] if earlier else [])
    assert not earlier or (output / "marker").read_text() == "earlier"


@pytest.mark.parametrize("held", [(), ("marker", "old")])
def test_atomic_directory_replaces_an_empty_directory_and_one_of_its_kind(tmp_path, held):
    output = tmp_path / "output"
    output.mkdir()
    for name in held:
        (output / name).write_text("old")
    with files.atomic_directory(output, "marker") as partial:
        (partial / "marker").write_text("new")
    assert {path.name: path.read_text() for path in output.iterdir()} == {"marker": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_atomic_directory_refuses_other_files_and_touches_none(tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    (output / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="output holds other files"), files.atomic_directory(output, "marker"):
        pytest.fail("the block must not run")
    assert (output / "thesis.tex").read_text() == "years of work"
    with pytest.raises(InputError, match=r"thesis\.tex is a file"), files.atomic_directory(output / "thesis.tex", "m"):
        pytest.fail("the block must not run")
