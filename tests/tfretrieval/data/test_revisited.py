import io
import os
import pickle
from pathlib import Path

import pytest
from PIL import Image

from tfretrieval.data import revisited
from tfretrieval.data.benchmark_sources import JUDGED_SOURCES
from tfretrieval.data.distractors import with_distractors
from tfretrieval.data.sources import SourceOptions
from tfretrieval.errors import InputError

GENUINE = Path(__file__).parents[4] / "shared" / "data" / "benchmarks"
SETS = {"roxford5k": (4993, 3029, 2497, 1356, 68), "rparis6k": (6322, 6874, 10350, 7153, 70)}


def jpeg():
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 40, 160)).save(buffer, "JPEG")
    return buffer.getvalue()


def hard_linked(folder, names):
    """Makes photos of the given names, all of them one file."""
    folder.mkdir(parents=True)
    (folder / "first").write_bytes(jpeg())
    for name in names:
        os.link(folder / "first", folder / f"{name}.jpg")


@pytest.fixture(params=sorted(SETS))
def genuine(request, tmp_path):
    """A folder in the genuine layout, with the genuine ground truth and a generated photo under each name."""
    truth = GENUINE / f"gnd_{request.param}.pkl"
    if not truth.is_file():
        pytest.skip(f"{truth} is not there")
    (tmp_path / truth.name).write_bytes(truth.read_bytes())
    content = pickle.loads(truth.read_bytes())
    hard_linked(tmp_path / "jpg", content["imlist"] + content["qimlist"])
    return request.param, tmp_path, content


def test_the_genuine_ground_truth_is_read_with_its_published_counts(genuine):
    name, folder, content = genuine
    judged = JUDGED_SOURCES[name](folder, SourceOptions())
    database, easy, hard, junk, with_easy = SETS[name]
    assert [entry.photo_id for entry in judged.entries] == content["qimlist"] + content["imlist"]
    assert [entry.split for entry in judged.entries] == ["queries"] * 70 + ["database"] * database
    assert all(entry.path == folder / "jpg" / f"{entry.photo_id}.jpg" for entry in judged.entries)
    assert (judged.protocol, judged.notes, judged.distractors) == ("revisited", (), 0)
    for grade, total in (("easy", easy), ("hard", hard), ("junk", junk)):
        found = [getattr(judgement, grade) for judgement in judged.judgements]
        assert found == [tuple(query[grade]) for query in content["gnd"]]
        assert sum(map(len, found)) == total
    assert sum(bool(judgement.easy) for judgement in judged.judgements) == with_easy
    assert [judgement.box for judgement in judged.judgements] == [tuple(query["bbx"]) for query in content["gnd"]]


def test_a_missing_photo_is_named_and_all_are_counted(genuine):
    name, folder, content = genuine
    for missing in (content["imlist"][7], content["qimlist"][3], content["imlist"][9]):
        (folder / "jpg" / f"{missing}.jpg").unlink()
    with pytest.raises(InputError, match=f"3 are not there, first .*{content['qimlist'][3]}.jpg"):
        JUDGED_SOURCES[name](folder, SourceOptions())


def test_distractors_follow_the_database_and_leave_the_rows(genuine, tmp_path):
    name, folder, _ = genuine
    judged = JUDGED_SOURCES[name](folder, SourceOptions())
    hard_linked(tmp_path / "r1m" / "jpg" / "00", ["b", "a"])
    (tmp_path / "r1m" / "revisitop1m.txt").write_text("00/b.jpg\n00/a.jpg\n")
    for place in ("r1m", "r1m/revisitop1m.txt"):
        larger = with_distractors(judged, tmp_path / place)
        assert larger.judgements == judged.judgements
        assert larger.entries[: len(judged.entries)] == judged.entries
        added = larger.entries[len(judged.entries) :]
        assert [(entry.photo_id, entry.split) for entry in added] == [
            ("00/b.jpg", "database"),
            ("00/a.jpg", "database"),
        ]
        assert all(entry.path.is_file() for entry in added)
        assert larger.distractors == 2 and "1001001" in larger.notes[-1]


TOY = {
    "imlist": ["a", "b", "c"],
    "qimlist": ["q"],
    "gnd": [{"bbx": [1, 2, 30, 40], "easy": [0], "hard": [], "junk": [2]}],
}


@pytest.fixture
def toy(tmp_path):
    hard_linked(tmp_path / "toy" / "jpg", ["a", "b", "c", "q"])
    (tmp_path / "toy" / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(TOY, 3))
    return tmp_path / "toy"


def test_counts_and_hashes_other_than_the_published_are_noted(toy):
    judged = revisited.read_roxford5k(toy, SourceOptions())
    told = " ".join(judged.notes)
    assert len(judged.notes) == 6
    for part in ("3 database photos and 4993", "1 queries and 70", "1 easy rows and 3029", "1 junk rows and 1356"):
        assert part in told
    assert "gnd_roxford5k.pkl" in judged.notes[-1] and "ba7967754bd2" in judged.notes[-1]


def test_missing_parts_are_named(toy, tmp_path):
    with pytest.raises(InputError, match=r"not a folder; one with gnd_roxford5k\.pkl"):
        revisited.read_roxford5k(tmp_path / "absent", SourceOptions())
    with pytest.raises(InputError, match=r"has no gnd_rparis6k\.pkl and no gnd_rparis6k\.mat"):
        revisited.read_rparis6k(toy, SourceOptions())


def test_a_folder_of_distractors_is_read_in_order(toy, tmp_path):
    hard_linked(tmp_path / "more" / "z", ["2", "1"])
    hard_linked(tmp_path / "more" / "y", ["3"])
    found = with_distractors(revisited.read_roxford5k(toy, SourceOptions()), tmp_path / "more")
    assert [entry.photo_id for entry in found.entries[-3:]] == ["y/3.jpg", "z/1.jpg", "z/2.jpg"]


def test_faults_of_distractors_are_named(toy, tmp_path):
    judged = revisited.read_roxford5k(toy, SourceOptions())
    listed = tmp_path / "list.txt"
    with pytest.raises(InputError, match=r"--distractors=.*list\.txt is not there"):
        with_distractors(judged, listed)
    hard_linked(tmp_path / "jpg", ["d"])
    for text, sentence in (
        ("d.jpg\n../x.jpg\n", r"line\[1\] is '\.\./x\.jpg'"),
        ("d.jpg\nd.jpg\n", r"line\[1\] is 'd\.jpg', as "),
        ("d.jpg\ne.jpg\n", r"names 2 photos and 1 are not there, first .*e\.jpg"),
        ("a\n", "names 'a', which is a photo of the benchmark's own database"),
        ("\n", "is empty"),
    ):
        listed.write_text(text)
        with pytest.raises(InputError, match=sentence):
            with_distractors(judged, listed)
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match="holds no photo"):
        with_distractors(judged, tmp_path / "bare")
