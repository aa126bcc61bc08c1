"""The csv files of Google-Landmarks: lists of photos with their landmarks, and the solutions of the two tasks.

Weyand, Araujo, Cao, Sim, "Google Landmarks Dataset v2", CVPR 2020; https://github.com/cvdfoundation/google-landmark.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from tfretrieval.data.ground_truth_lists import shown
from tfretrieval.data.listed_photos import csv_columns, read_csv_rows, whole_number
from tfretrieval.errors import InputError

TASKS = {"recognition": "landmarks", "retrieval": "images"}
"""The tasks, and the column of solutions and predictions that holds the answer."""

_ID = re.compile(r"^[0-9A-Za-z_-]{3,64}$")  # part of a path, so nothing that leads elsewhere
_USAGES = ("Public", "Private", "Ignored")


@dataclasses.dataclass(frozen=True)
class Solution:
    """What is right for each test photo that is scored, in the file's order.

    Attributes:
        truths: by test photo: landmarks ("27"), none or more; or ids of index photos.
        usages: by test photo: "public" or "private", the two parts that are scored one by one.
        ignored: test photos that are not scored.
        lines: by test photo: the file's line.
    """

    truths: dict[str, tuple[str, ...]]
    usages: dict[str, str]
    ignored: frozenset[str]
    lines: dict[str, int]


def read_landmark_list(file: Path) -> Iterator[tuple[str, str]]:
    """Yields (photo's id, landmark) of a list of photos; the file is read row by row.

    The columns are id and landmark_id, one photo a row, as in train.csv and index_image_to_landmark.csv; or landmark_id
    and images, ids with a space between them, as in train_clean.csv. Rows whose landmark is "None", as version 1 has
    some, are left out.

    Args:
        file: the csv file.

    Raises:
        InputError: it cannot be read, or a row is at fault; file, line and field are named.
    """
    wanted = "a list of Google-Landmarks"
    several = "images" in csv_columns(file, wanted)
    known: dict[str, str] = {}  # one string for each landmark, not one for each of four million rows
    seen: set[str] = set()
    for line, row in read_csv_rows(file, ("landmark_id", "images" if several else "id"), wanted):
        landmark = row[0].strip()
        if landmark == "None":
            continue
        if landmark not in known:
            known[landmark] = str(whole_number(f"{file} line {line}: landmark_id", landmark))
        for photo in row[1].split() if several else row[1:]:
            where = f"{file} line {line}: {'images' if several else 'id'}"
            _check_id(where, photo)
            if photo in seen:
                raise InputError(f"{where} has {photo!r}, which stood there before; each photo stands once.")
            seen.add(photo)
            yield photo, known[landmark]


def read_ids(file: Path) -> dict[str, int]:
    """Reads the column id of a csv file, as index.csv and test.csv have it.

    Returns:
        The ids in the file's order, each with its row from 0.

    Raises:
        InputError: it cannot be read, or an id is at fault; file and line are named.
    """
    row_of: dict[str, int] = {}
    for line, (photo,) in read_csv_rows(file, ("id",), "a list of Google-Landmarks"):
        _check_id(f"{file} line {line}: id", photo)
        if photo in row_of:
            raise InputError(f"{file} line {line}: id is {photo!r}, which stood there before; each photo stands once.")
        row_of[photo] = len(row_of)
    if not row_of:
        raise InputError(f"{file} names no photo; a line for each is wanted.")
    return row_of


def read_solution(file: str | Path, task: str) -> Solution:
    """Reads recognition_solution_v2.1.csv (id, landmarks, Usage) or retrieval_solution_v2.1.csv (id, images, Usage).

    Answers are joined by single spaces. Usage is Public, Private or Ignored; answers of ignored rows are not read.

    Args:
        file: the csv file.
        task: a key of `TASKS`.

    Raises:
        InputError: it cannot be read, scores nothing, or a row is at fault; file, line and field are named.
    """
    file, answer = Path(file), TASKS[task]
    truths, usages, lines, ignored = {}, {}, {}, set()
    for line, (photo, told, usage) in read_csv_rows(file, ("id", answer, "Usage"), f"the solution of {task}"):
        where = f"{file} line {line}"
        _check_id(f"{where}: id", photo)
        if photo in lines:
            raise InputError(f"{where}: id is {photo!r}, as on line {lines[photo]}; each test photo stands once.")
        if usage not in _USAGES:
            raise InputError(f"{where}: Usage is {shown(usage)}; Public, Private or Ignored is wanted.")
        lines[photo] = line
        if usage == "Ignored":
            ignored.add(photo)
        else:
            truths[photo] = tuple(split_answers(f"{where}: {answer}", told, task))
            usages[photo] = usage.lower()
    if not truths:
        raise InputError(f"{file} has no row that is Public or Private; one or more are wanted.")
    return Solution(truths, usages, frozenset(ignored), lines)


def split_answers(where: str, text: str, task: str) -> list[str]:
    """Splits answers at single spaces; one at the end is allowed.

    Args:
        where: file, line and field, for the errors.
        text: the field.
        task: a key of `TASKS`: landmarks are numbers, photos are ids.

    Returns:
        The answers, landmarks without leading zeros.

    Raises:
        InputError: one is empty or at fault.
    """
    answers = text.removesuffix(" ").split(" ") if text.strip(" ") else []
    if task == "recognition":
        return [str(whole_number(where, answer)) for answer in answers]
    for answer in answers:
        _check_id(where, answer)
    return answers


def _check_id(where: str, photo: str) -> None:
    if not _ID.match(photo):
        raise InputError(f"{where} is {shown(photo)}; a photo's id, as 0123456789abcdef, is wanted.")
