"""INRIA Holidays: Jegou, Douze, Schmid, "Hamming embedding and weak geometric consistency", ECCV 2008."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from tfretrieval.data.ground_truth_lists import shown
from tfretrieval.data.judgements import JudgedPhotos, QueryJudgement
from tfretrieval.data.listed_photos import (
    add_once,
    check_photos,
    count_notes,
    find_file,
    need_folder,
    photo_name,
    photos_below,
    photos_folder,
    read_lines,
    rows_by,
    sha256_of_files,
    sha256_of_names,
    whole_number,
)
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError

PHOTOS, QUERIES = 1491, 500
_FILES = ("holidays_images.dat", "perfect_result.dat")
_FOLDERS = ("jpg", "images")
_WANTED = "a folder with jpg/100000.jpg and the others of INRIA Holidays"


def read_holidays(directory: str | Path, options: SourceOptions) -> JudgedPhotos:
    """Reads Holidays: 1,491 photos in 500 groups, the first of each group being its query.

    A photo's name is a number; its hundreds are the group, and 00 is the query. Queries are part of the database, where
    each one's own photo is junk: the official evaluation takes it out of the ranking. Photos and evaluation package are
    at http://lear.inrialpes.fr/~jegou/data.php (jpg1.tar.gz, jpg2.tar.gz, eval_holidays.tgz). Many photos are turned;
    figures "with rotation corrected" are of copies turned by hand, which this reader takes as well.

    The photos are those that holidays_images.dat names, a name on each line, or else those of perfect_result.dat (a
    query and then, by rank from 0, the photos of its group), or else those in the folder. With both files, they must
    agree.

    Args:
        directory: the folder, with the photos in jpg, images or itself, and perhaps holidays_images.dat and
            perfect_result.dat, in it or in eval_holidays.
        options: none are read.

    Returns:
        Queries and database in the list's order, or by name; ids are the files' names, instances the groups' numbers.

    Raises:
        InputError: the folder is missing, a name is no number, a group lacks its query or all others, the files
            disagree, or a photo is missing.
    """
    directory = need_folder(directory, _WANTED)
    images, perfect = (find_file(directory, name, ("eval_holidays",)) for name in _FILES)
    used = [path for path in (images, perfect) if path]
    if images:
        names = _read_images(images)
    elif perfect:
        names = [name for group in _read_perfect(perfect).values() for name in group]
    else:
        _, names = photos_below(directory, _FOLDERS)
    listed = str(images or perfect or f"--input={directory}")
    folder = photos_folder(directory, _FOLDERS, names)
    database = [PhotoEntry(name, folder / name, _group(listed, name), "database") for name in names]
    groups = _groups(listed, database)
    if images and perfect:
        _check_agreement(perfect, images, database, groups)
    check_photos(listed, database)
    queries, judgements = [], []
    for row, entry in enumerate(database):
        if _is_query(entry.photo_id):
            queries.append(dataclasses.replace(entry, split="queries"))
            judgements.append(QueryJudgement(tuple(r for r in groups[entry.instance] if r != row), junk=(row,)))
    notes = count_notes("Holidays", {"photos": (len(database), PHOTOS), "queries": (len(queries), QUERIES)})
    digest = sha256_of_files(used) if used else sha256_of_names(names)
    return JudgedPhotos((*queries, *database), tuple(judgements), "holidays", digest, notes)


def _read_images(file: Path) -> list[str]:
    lines: dict[str, int] = {}
    for line, name in read_lines(file, "holidays_images.dat, a name a line,"):
        add_once(f"{file} line {line}", photo_name(f"{file} line {line}", name), line, lines)
    return list(lines)


def _read_perfect(file: Path) -> dict[str, list[str]]:
    """Returns each query's group, itself first."""
    groups: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    for line, text in read_lines(file, "perfect_result.dat, of Holidays' evaluation package,"):
        query, *results = text.split()
        if len(results) % 2:
            raise InputError(
                f"{file} line {line} has {len(results)} words after {shown(query)}; pairs of a rank and a name are "
                "wanted."
            )
        for rank in results[::2]:
            whole_number(f"{file} line {line}: the rank", rank)
        groups[query] = [query, *(name for name in results[1::2] if name != query)]
        for name in groups[query]:
            add_once(f"{file} line {line}", photo_name(f"{file} line {line}", name), line, lines)
        if len(set(groups[query])) < len(groups[query]):
            raise InputError(f"{file} line {line} names a photo twice; each stands once.")
        strangers = [name for name in groups[query] if _group(str(file), name) != _group(str(file), query)]
        if strangers:
            raise InputError(
                f"{file} line {line} has {shown(strangers[0])} for {shown(query)}; photos of one group, equal in all "
                "but the last two digits, are wanted."
            )
    return groups


def _number(listed: str, name: str) -> int:
    stem, _, suffix = name.rpartition(".")
    if not (stem.isascii() and stem.isdigit()) or not suffix:
        raise InputError(f"{listed} names {shown(name)}; names like 100000.jpg are wanted.")
    return int(stem)


def _group(listed: str, name: str) -> str:
    return str(_number(listed, name) // 100)


def _is_query(name: str) -> bool:
    return _number("", name) % 100 == 0


def _groups(listed: str, database: list[PhotoEntry]) -> dict[str, tuple[int, ...]]:
    """Returns the rows of each group, which has one query and others."""
    if not database:
        raise InputError(f"{listed} names no photo; {_WANTED} is wanted.")
    groups = rows_by(database, lambda entry: entry.instance)
    for group, rows in groups.items():
        queries = [row for row in rows if _is_query(database[row].photo_id)]
        if len(queries) != 1 or len(rows) < 2:
            raise InputError(
                f"{listed}: the group {group} has {len(rows)} photos and {len(queries)} queries; one query, "
                f"{group}00.jpg, and other photos are wanted."
            )
    return groups


def _check_agreement(perfect: Path, images: Path, database: list[PhotoEntry], groups: dict) -> None:
    told = {_group(str(perfect), query): set(names) for query, names in _read_perfect(perfect).items()}
    for group in sorted(told.keys() | groups.keys(), key=int):
        listed = {database[row].photo_id for row in groups.get(group, ())}
        if told.get(group, set()) != listed:
            odd: Iterable[str] = sorted(told.get(group, set()) ^ listed)
            raise InputError(
                f"{perfect} and {images} disagree in the group {group}, first in {next(iter(odd))}; the same photos "
                "are wanted in both."
            )
