import pickle
import re

import numpy as np
import pytest

from tfretrieval.data.instre import read_instre
from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError

IMLIST = ["INSTRE-S1/01a_canada_book/002.jpg", "INSTRE-S1/01b_cup/001.jpg", "INSTRE-M/01/001.jpg"]
QIMLIST = ["INSTRE-S1/01a_canada_book/001.jpg", "INSTRE-M/01/002.jpg"]
OK = [[0, 2], [2]]
BOXES = [[10, 20, 110.5, 220], [1, 1, 300, 200]]


def cells(texts):
    made = np.empty((1, len(texts)), object)
    made[0] = [np.array([text]) for text in texts]
    return made


def write_mat(folder, first=1, boxes=BOXES, fields=("ok", "bbx")):
    """Writes the file as MATLAB lays it out: cell arrays of names, a row of structures with rows of doubles."""
    scipy_io = pytest.importorskip("scipy.io")
    gnd = np.empty((1, len(OK)), [(name, object) for name in fields])
    for query, (rows, box) in enumerate(zip(OK, boxes, strict=True)):
        gnd[0, query] = (np.array([rows], float) + first, np.array([box], float))
    folder.mkdir(parents=True, exist_ok=True)
    scipy_io.savemat(folder / "gnd_instre.mat", {"imlist": cells(IMLIST), "qimlist": cells(QIMLIST), "gnd": gnd})


def write_pickle(folder, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    gnd = [{"ok": rows, "bbx": box} for rows, box in zip(OK, BOXES, strict=True)]
    content = {"imlist": IMLIST, "qimlist": QIMLIST, "gnd": gnd, **changed}
    (folder / "gnd_instre.pkl").write_bytes(pickle.dumps(content))


def make_photos(folder, names=(*IMLIST, *QIMLIST)):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(("write", "photos"), [(write_mat, "."), (write_pickle, "."), (write_mat, "images")])
def test_queries_have_boxes_and_rows_from_zero(tmp_path, write, photos):
    write(tmp_path)
    make_photos(tmp_path / photos)
    found = read_instre(tmp_path, SourceOptions())
    assert found.judgements == (
        QueryJudgement((0, 2), box=(10, 20, 110.5, 220)),
        QueryJudgement((2,), box=(1, 1, 300, 200)),
    )
    assert [(entry.photo_id, entry.split) for entry in found.entries] == [
        *((name, "queries") for name in QIMLIST),
        *((name, "database") for name in IMLIST),
    ]
    folder = tmp_path / photos
    assert found.entries[0] == PhotoEntry(QIMLIST[0], folder / QIMLIST[0], "INSTRE-S1/01a_canada_book", "queries")
    assert found.protocol == "instre"
    assert "2 queries (1,250), 3 database photos (27,293)" in found.notes[0]


def test_rows_of_a_matlab_file_count_from_one(tmp_path):
    write_mat(tmp_path, first=0)
    with pytest.raises(InputError, match=re.escape(f"({QIMLIST[0]}): ok[0] is 0; a row of the database, 1 to 3")):
        read_instre(make_photos(tmp_path), SourceOptions())


def test_boxes_of_width_and_height_are_refused(tmp_path):
    write_mat(tmp_path, boxes=[[150, 20, 100, 220], BOXES[1]])
    with pytest.raises(InputError, match=r"bbx is .*; four numbers x1 < x2 and y1 < y2"):
        read_instre(make_photos(tmp_path), SourceOptions())


def test_other_fields_a_missing_file_and_missing_photos_are_named(tmp_path):
    with pytest.raises(InputError, match=r"has no gnd_instre\.mat, and no gnd_instre\.pkl, in it"):
        read_instre(make_photos(tmp_path / "a"), SourceOptions())
    write_mat(tmp_path / "b", fields=("positives", "bbx"))
    with pytest.raises(InputError, match="lacks the field 'ok'"):
        read_instre(make_photos(tmp_path / "b"), SourceOptions())
    write_pickle(tmp_path / "c")
    with pytest.raises(InputError, match=re.escape("names 5 photos and 1 are not there, first ") + ".*01b_cup/001"):
        read_instre(make_photos(tmp_path / "c", (IMLIST[0], IMLIST[2], *QIMLIST)), SourceOptions())
    write_pickle(tmp_path / "d", imlist=["../../a.jpg", *IMLIST[1:]])
    with pytest.raises(InputError, match=r"imlist\[0\] is '\.\./\.\./a\.jpg'"):
        read_instre(make_photos(tmp_path / "d"), SourceOptions())
