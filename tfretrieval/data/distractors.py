"""Distractors: photos that are wrong for every query, put after a benchmark's own database.

The revisited benchmarks have a set of 1,001,001: http://ptak.felk.cvut.cz/revisitop/revisitop1m has the list
revisitop1m.txt and 100 archives in `jpg` (400 GB), to be unpacked into one folder `jpg` beside the list.
"""

import dataclasses
from pathlib import Path

from tfretrieval.data.ground_truth_lists import check_names
from tfretrieval.data.judgements import UNLABELLED, JudgedPhotos
from tfretrieval.data.listed_photos import check_photos, read_lines
from tfretrieval.data.revisited import PHOTOS
from tfretrieval.data.sources import PHOTO_SUFFIXES, PhotoEntry, check_name
from tfretrieval.errors import InputError

LIST = "revisitop1m.txt"
PUBLISHED = 1_001_001


def with_distractors(judged: JudgedPhotos, place: str | Path) -> JudgedPhotos:
    """Appends distractors to a benchmark's database; the ground truth's rows stay what they were.

    Args:
        judged: the benchmark.
        place: a text file with a photo's path on each line, its suffix included, below a folder `jpg` beside it; or a
            folder with revisitop1m.txt and `jpg`; or any other folder, whose photos are taken in the order of their
            paths. A distractor's id is its line, or its path below the folder.

    Raises:
        InputError: the place holds no photo, a line is at fault, photos are missing, or a distractor has the name of a
            photo of the database.
    """
    names, root, source = _named(Path(place))
    known = {entry.photo_id for entry in judged.entries if entry.split == "database"}
    twice = next((name for name in names if name in known), None)
    if twice is not None:
        raise InputError(
            f"{source} names {twice!r}, which is a photo of the benchmark's own database; others are wanted."
        )
    entries = [PhotoEntry(name, root / name, UNLABELLED, "database") for name in names]
    check_photos(source, entries)
    notes = [f"{len(names)} distractors follow the database of {len(known)} photos."]
    if Path(source).name == LIST and len(names) != PUBLISHED:
        notes.append(f"{LIST} has {len(names)} photos; the published one has {PUBLISHED}.")
    return dataclasses.replace(
        judged,
        entries=(*judged.entries, *entries),
        notes=(*judged.notes, *notes),
        distractors=judged.distractors + len(entries),
    )


def _named(place: Path) -> tuple[tuple[str, ...], Path, str]:
    """Returns the distractors' names, the folder they are below, and what names them."""
    listed = place / LIST if (place / LIST).is_file() else place
    if listed.is_file():
        names = [text for _, text in read_lines(listed, "a list of photos' paths")]
        return check_names(f"{listed}: line", names), listed.parent / PHOTOS, str(listed)
    if not place.is_dir():
        raise InputError(
            f"--distractors={place} is not there; a text file of photos, or a folder with some, is wanted."
        )
    paths = sorted(path for path in place.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file())
    if not paths:
        raise InputError(f"--distractors={place} holds no photo; some are wanted.")
    for path in paths:
        check_name(path)
    return tuple(path.relative_to(place).as_posix() for path in paths), place, f"--distractors={place}"
