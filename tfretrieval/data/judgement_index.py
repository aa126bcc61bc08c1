"""The judgements of all queries at once: `judgements.npz` beside `photos.csv`."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfretrieval.data.judgements import GRADES, QueryJudgement, check_rows
from tfretrieval.errors import InputError

JUDGEMENT_INDEX = "judgements.npz"


def write_judgements(path: str | Path, judgements: Sequence[QueryJudgement]) -> None:
    """Writes the judgements of Q queries; equal ones give equal bytes.

    The arrays: for each grade GRADE/offsets int64 [Q + 1] and GRADE/rows int64, query q having the rows offsets[q] to
    offsets[q + 1] - 1; boxes float64 [Q, 4], x1, y1, x2, y2, not a number where there is none; groups, text [Q].
    """
    arrays = {}
    for grade in GRADES:
        lists = [getattr(judgement, grade) for judgement in judgements]
        arrays[f"{grade}/offsets"] = np.cumsum([0, *map(len, lists)]).astype(np.int64)
        arrays[f"{grade}/rows"] = np.array([row for rows in lists for row in rows], np.int64)
    boxes = [judgement.box or (np.nan,) * 4 for judgement in judgements]
    arrays["boxes"] = np.array(boxes, np.float64).reshape(-1, 4)
    arrays["groups"] = np.array([judgement.group for judgement in judgements], np.str_)
    np.savez(path, **arrays)


def read_judgements(path: str | Path, queries: int, database: int) -> tuple[QueryJudgement, ...]:
    """Reads what `write_judgements` wrote.

    Args:
        path: the file.
        queries: number of queries.
        database: number of database photos.

    Raises:
        InputError: the file is missing or unreadable, or does not fit the photos.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}); make the records again.") from error
    try:
        judgements = _judgements(arrays, queries)
        check_rows(judgements, database)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path} does not fit {queries} queries and {database} database photos ({error}); make the records again."
        ) from error
    return judgements


def _judgements(arrays: dict[str, np.ndarray], queries: int) -> tuple[QueryJudgement, ...]:
    boxes, groups = arrays["boxes"], arrays["groups"]
    if (
        boxes.shape != (queries, 4)
        or boxes.dtype != np.float64
        or groups.shape != (queries,)
        or groups.dtype.kind != "U"
    ):
        raise ValueError(f"it has {len(boxes)} boxes and {len(groups)} groups")
    graded = {grade: _lists(grade, arrays, queries) for grade in GRADES}
    return tuple(
        QueryJudgement(
            **{grade: graded[grade][query] for grade in GRADES},
            box=None if np.isnan(boxes[query]).any() else tuple(boxes[query].tolist()),
            group=str(groups[query]),
        )
        for query in range(queries)
    )


def _lists(grade: str, arrays: dict[str, np.ndarray], queries: int) -> list[tuple[int, ...]]:
    offsets, rows = arrays[f"{grade}/offsets"], arrays[f"{grade}/rows"]
    fits = offsets.shape == (queries + 1,) and rows.ndim == 1 and offsets.dtype == rows.dtype == np.int64
    if not fits or offsets[0] != 0 or offsets[-1] != len(rows) or np.any(np.diff(offsets) < 0):
        raise ValueError(f"its lists of {grade} rows do not")
    return [tuple(part.tolist()) for part in np.split(rows, offsets[1:-1])] if queries else []
