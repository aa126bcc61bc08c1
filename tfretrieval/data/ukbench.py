"""UKBench: Nister, Stewenius, "Scalable recognition with a vocabulary tree", CVPR 2006."""

import dataclasses
import re
from pathlib import Path

from tfretrieval.data.ground_truth_lists import shown
from tfretrieval.data.judgements import JudgedPhotos, QueryJudgement
from tfretrieval.data.listed_photos import (
    count_notes,
    need_folder,
    photos_below,
    rows_by,
    sha256_of_names,
)
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError

PHOTOS = 10_200
OF_A_GROUP = 4
_FOLDERS = ("full", "jpg", "images")
_NAME = re.compile(r"^ukbench(\d{5})\.jpg$")


def read_ukbench(directory: str | Path, options: SourceOptions) -> JudgedPhotos:
    """Reads UKBench: 10,200 photos, four of each of 2,550 objects; each photo is a query.

    Photos 0 to 3 show the first object, 4 to 7 the second, and so on. The measure is the number of right photos among
    the first four, the N-S score, and a query's own photo counts: the best is 4. The photos are in ukbench.zip (1.5 GB)
    at https://archive.org/details/ukbench.

    Args:
        directory: the folder, with ukbench00000.jpg and the others in full, jpg, images or itself. Other photos there
            are refused.
        options: none are read.

    Returns:
        All photos by name as queries, and again as the database, under one id, the file's name; instances are the
        objects' numbers.

    Raises:
        InputError: the folder is missing, holds a photo of another name, or an object lacks one of its four.
    """
    directory = need_folder(directory, "a folder with ukbench00000.jpg and the others")
    folder, names = photos_below(directory, _FOLDERS)
    if not names:
        raise InputError(f"--input={directory} holds no photo; ukbench00000.jpg and the others are wanted in it.")
    wrong = [name for name in names if not _NAME.match(name)]
    if wrong:
        raise InputError(
            f"{folder} holds {shown(wrong[0])}, and {len(wrong)} such photos; names like ukbench00000.jpg are wanted."
        )
    database = [PhotoEntry(name, folder / name, str(_number(name) // OF_A_GROUP), "database") for name in names]
    groups = rows_by(database, lambda entry: entry.instance)
    short = [group for group, rows in groups.items() if len(rows) != OF_A_GROUP]
    if short:
        there = {names[row] for row in groups[short[0]]}
        first = int(short[0]) * OF_A_GROUP
        lost = [name for name in (f"ukbench{first + k:05d}.jpg" for k in range(OF_A_GROUP)) if name not in there]
        raise InputError(
            f"{folder} lacks photos of {len(short)} of {len(groups)} objects, first {lost[0]}; all four of each object "
            "are wanted."
        )
    queries = [dataclasses.replace(entry, split="queries") for entry in database]
    judgements = tuple(QueryJudgement(groups[entry.instance]) for entry in queries)
    notes = count_notes("UKBench", {"photos": (len(names), PHOTOS)})
    return JudgedPhotos((*queries, *database), judgements, "ukbench", sha256_of_names(names), notes)


def _number(name: str) -> int:
    return int(_NAME.match(name)[1])
