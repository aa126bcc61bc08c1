import os
import pickle
from pathlib import Path

import pytest
from PIL import Image

from tfretrieval.data import oxford
from tfretrieval.data.benchmark_sources import JUDGED_SOURCES
from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.data.sources import SourceOptions
from tfretrieval.errors import InputError

GENUINE = Path(__file__).parents[4] / "shared" / "data" / "benchmarks" / "oxford5k_gt"
TEXTS = {
    "hall_1_query.txt": "oxc1_hall_000002 10.5 20 30.5 40\n",
    "hall_1_good.txt": "hall_000003\nhall_000002\nhall_000003\n",
    "hall_1_ok.txt": "hall_000001\r\nhall_000003\r\n\r\n",
    "hall_1_junk.txt": "other_000009\n",
    "gate_1_query.txt": "oxc1_other_000009 0 0 8 9",
    "gate_1_good.txt": "other_000009\n",
    "gate_1_ok.txt": "",
    "gate_1_junk.txt": "hall_000001\n",
}
# Rows count in the order of the names: hall_000001, hall_000002, hall_000003, other_000009.
EXPECTED = {
    "other_000009": QueryJudgement((3,), (), (0,), (0.0, 0.0, 8.0, 9.0)),
    "hall_000002": QueryJudgement((2, 1), (0,), (3,), (10.5, 20.0, 30.5, 40.0)),
}


def photos(folder, names):
    folder.mkdir(parents=True)
    Image.new("RGB", (16, 12), (90, 40, 160)).save(folder / "first", "JPEG")
    for name in names:
        os.link(folder / "first", folder / f"{name}.jpg")


@pytest.fixture
def toy(tmp_path):
    """Four photos in two folders of `jpg`, and the text files beside it."""
    photos(tmp_path / "jpg" / "x", ["other_000009", "hall_000002"])
    photos(tmp_path / "jpg" / "a", ["hall_000003", "hall_000001"])
    for name, text in TEXTS.items():
        (tmp_path / name).write_bytes(text.encode())
    return tmp_path


@pytest.mark.parametrize("folder", [".", "gt_files"])
def test_text_files_give_rows_of_the_sorted_photos_each_once(toy, folder):
    (toy / folder).mkdir(exist_ok=True)
    for name in TEXTS:
        (toy / name).rename(toy / folder / name)
    judged = oxford.read_oxford5k(toy, SourceOptions())
    ids = {split: [e.photo_id for e in judged.entries if e.split == split] for split in ("queries", "database")}
    assert ids["queries"] == list(EXPECTED)
    assert ids["database"] == ["hall_000001", "hall_000002", "hall_000003", "other_000009"]
    assert judged.judgements == tuple(EXPECTED.values())
    assert judged.protocol == "oxford" and len(judged.sha256) == 64
    assert any("4 database photos and 5063" in note for note in judged.notes)


def test_the_hash_is_of_the_texts_and_not_of_where_they_are(toy, tmp_path):
    before = oxford.read_oxford5k(toy, SourceOptions()).sha256
    (toy / "gt").mkdir()
    for name in TEXTS:
        (toy / name).rename(toy / "gt" / name)
    assert oxford.read_oxford5k(toy, SourceOptions()).sha256 == before
    (toy / "gt" / "gate_1_ok.txt").write_text("hall_000002\n")
    assert oxford.read_oxford5k(toy, SourceOptions()).sha256 != before


def test_the_genuine_texts_are_read_with_their_known_counts(tmp_path):
    if not GENUINE.is_dir():
        pytest.skip(f"{GENUINE} is not there")
    lines = {path.name: path.read_text().split() for path in GENUINE.glob("*.txt")}
    named = {name for file, names in lines.items() if "_query" not in file for name in names}
    queries = {file: words[0][5:] for file, words in lines.items() if file.endswith("_query.txt")}
    photos(tmp_path / "jpg", named | set(queries.values()))
    (tmp_path / "gt").symlink_to(GENUINE)
    judged = JUDGED_SOURCES["oxford5k"](tmp_path, SourceOptions())
    ids = [entry.photo_id for entry in judged.entries if entry.split == "database"]
    assert ids == sorted(named | set(queries.values()))
    assert [entry.photo_id for entry in judged.entries[:55]] == [queries[file] for file in sorted(queries)]
    for file, judgement in zip(sorted(queries), judged.judgements, strict=True):
        for kind, rows in (("good", judgement.easy), ("ok", judgement.hard), ("junk", judgement.junk)):
            texts = lines[file.replace("query", kind)]
            assert {ids[row] for row in rows} == set(texts) and len(rows) == len(set(texts))
        assert judgement.box == tuple(map(float, lines[file][1:]))
        assert queries[file] in {ids[row] for row in judgement.easy + judgement.hard}  # a query is in the database
    assert len(judged.notes) == 1 and "5063" in judged.notes[0]  # the database alone differs; counts and hash do not


def test_paris_leaves_out_its_corrupt_photos(tmp_path):
    photos(tmp_path / "jpg" / "louvre", ["paris_louvre_000001", "paris_louvre_000136", "paris_louvre_000002"])
    (tmp_path / "jpg" / "louvre" / "paris_louvre_000136.jpg").unlink()
    (tmp_path / "jpg" / "louvre" / "paris_louvre_000136.jpg").write_text("<html>302 Found</html>")
    for kind, text in {"good": "paris_louvre_000001", "ok": "paris_louvre_000136\n", "junk": ""}.items():
        (tmp_path / f"louvre_1_{kind}.txt").write_text(text)
    (tmp_path / "louvre_1_query.txt").write_text("paris_louvre_000002 0 0 9 9")
    judged = oxford.read_paris6k(tmp_path, SourceOptions())
    ids = [entry.photo_id for entry in judged.entries if entry.split == "database"]
    assert ids == ["paris_louvre_000001", "paris_louvre_000002"]
    assert judged.judgements == (QueryJudgement((0,), box=(0.0, 0.0, 9.0, 9.0)),)
    assert "1 photos that the authors list as corrupt are left out, first paris_louvre_000136." in judged.notes


@pytest.mark.parametrize("source", ["oxford5k", "paris6k"])
def test_the_later_pickle_is_preferred_and_kept_as_it_is(toy, source):
    content = {
        "imlist": ["other_000009", "hall_000003"],
        "qimlist": ["hall_000003"],
        "gnd": [{"bbx": [1, 2, 3, 4], "ok": [1, 0, 1], "junk": []}],
    }
    (toy / f"gnd_{source}.pkl").write_bytes(pickle.dumps(content))
    for name in ("other_000009", "hall_000003"):
        os.link(toy / "jpg" / "x" / "first", toy / "jpg" / f"{name}.jpg")
    judged = JUDGED_SOURCES[source](toy, SourceOptions())
    assert [entry.photo_id for entry in judged.entries] == ["hall_000003", "other_000009", "hall_000003"]
    assert judged.judgements == (QueryJudgement((1, 0, 1), box=(1.0, 2.0, 3.0, 4.0)),)
    assert judged.protocol == "oxford"


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("hall_1_good.txt", "hall_000001\nhall_000007\n", r"hall_1_good.txt line 2 names 'hall_000007', which is not"),
        ("hall_1_junk.txt", "\nhall_000001 2\n", r"hall_1_junk.txt line 2 is 'hall_000001 2'; a photo's name"),
        ("hall_1_ok.txt", "../x\n", r"hall_1_ok.txt line 1 is '../x'"),
        ("hall_1_ok.txt", None, r"hall_1_ok.txt cannot be read"),
        (
            "hall_1_query.txt",
            "oxc1_hall_000002 1 2 3\n",
            r"hall_1_query.txt holds \['oxc1_hall_000002 1 2 3'\]; one line",
        ),
        ("hall_1_query.txt", "oxc1_hall_000002 1 2 3 x\n", r"has the box \['1', '2', '3', 'x'\]"),
        ("hall_1_query.txt", "oxc1_hall_000002 9 2 3 4\n", r"hall_1_query.txt: the box is \[9.0, 2.0, 3.0, 4.0\]"),
        ("hall_1_query.txt", "", r"hall_1_query.txt holds \[\]; one line"),
        ("hall_1_query.txt", "oxc1_other_000009 1 2 3 4\n", r"asks for 'other_000009', as an earlier file does"),
        ("hall_1_query.txt", "oxc1_hall_000005 1 2 3 4\n", r"hall_1_query.txt names 'hall_000005', which is not"),
        ("jpg/hall_000001.jpg", "", r"has the name of .*a/hall_000001.jpg|hall_000001.jpg has the name"),
        ("gt/hall_1_query.txt", "oxc1_hall_000002 1 2 3 4\n", r"NAME_query.txt files in .* and .*gt; "),
    ],
)
def test_a_fault_is_named_with_its_file(toy, file, text, sentence):
    path = toy / file
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=sentence) as error:
        oxford.read_oxford5k(toy, SourceOptions())
    assert str(error.value).endswith(".")


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="is not a folder; one with the folder jpg"):
        oxford.read_oxford5k(tmp_path / "absent", SourceOptions())
    with pytest.raises(InputError, match=r"has no NAME_query\.txt file"):
        oxford.read_oxford5k(tmp_path, SourceOptions())
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=r"jpg holds no \.jpg photo"):
        oxford.read_oxford5k(tmp_path, SourceOptions())
