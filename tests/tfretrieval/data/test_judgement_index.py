import numpy as np
import pytest

from tfretrieval.data.judgement_index import read_judgements, write_judgements
from tfretrieval.data.judgements import JudgedPhotos, QueryJudgement
from tfretrieval.data.sources import PhotoEntry
from tfretrieval.errors import InputError

JUDGEMENTS = (
    QueryJudgement((4, 0, 4), (1,), (2, 3), (136.5, 34.1, 648.5, 955.7)),
    QueryJudgement((), group="Köln"),
    QueryJudgement((2,), (), (2,), (-3.0, 0.0, 1e4, 7.25), "private"),
)


def test_judgements_read_back_equal_and_have_equal_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_judgements(tmp_path / name, JUDGEMENTS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert read_judgements(tmp_path / "a.npz", 3, 5) == JUDGEMENTS


@pytest.mark.parametrize("kept", [JUDGEMENTS[1:2], ()])
def test_empty_lists_and_no_queries_read_back(tmp_path, kept):
    write_judgements(tmp_path / "a.npz", kept)
    assert read_judgements(tmp_path / "a.npz", len(kept), 0) == kept


@pytest.mark.parametrize(("queries", "database"), [(2, 5), (4, 5), (3, 4)])
def test_an_index_of_other_photos_is_refused(tmp_path, queries, database):
    write_judgements(tmp_path / "a.npz", JUDGEMENTS)
    with pytest.raises(InputError, match=f"does not fit {queries} queries and {database} database photos"):
        read_judgements(tmp_path / "a.npz", queries, database)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("easy/rows", np.array([4.0, 0, 4, 2])),
        ("easy/rows", None),
        ("hard/offsets", np.array([0, 2, 1, 1])),
        ("junk/rows", np.array([2, 3, -1])),
        ("boxes", np.zeros((3, 4), np.float32)),
        ("groups", np.array([1, 2, 3])),
    ],
)
def test_a_changed_array_is_refused(tmp_path, name, value):
    write_judgements(tmp_path / "a.npz", JUDGEMENTS)
    with np.load(tmp_path / "a.npz") as stored:
        arrays = {key: stored[key] for key in stored.files} | {name: value}
    np.savez(tmp_path / "b.npz", **{key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(InputError, match=r"b\.npz does not fit"):
        read_judgements(tmp_path / "b.npz", 3, 5)


def test_a_broken_or_missing_file_is_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK nonsense")
    for name in ("a.npz", "absent.npz"):
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            read_judgements(tmp_path / name, 3, 5)


def test_judged_photos_hold_rows_of_their_own_database(tmp_path):
    entries = tuple(
        PhotoEntry(name, tmp_path / name, "-", split) for name, split in (("q", "queries"), ("a", "database"))
    )
    JudgedPhotos(entries, (QueryJudgement((0,)),), "oxford", "00")
    with pytest.raises(ValueError, match="hard of query 0 has the row 1 in a database of 1"):
        JudgedPhotos(entries, (QueryJudgement((0,), (1,)),), "oxford", "00")
    with pytest.raises(ValueError, match="0 judgements stand beside 1 queries"):
        JudgedPhotos(entries, (), "oxford", "00")
