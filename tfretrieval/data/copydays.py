"""INRIA Copydays: Douze et al., "Evaluation of GIST descriptors for web-scale image search", CIVR 2009."""

import re
from pathlib import Path

from tfretrieval.data.ground_truth_lists import shown
from tfretrieval.data.judgements import JudgedPhotos, QueryJudgement
from tfretrieval.data.listed_photos import count_notes, need_folder, photos_in, sha256_of_names
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError

ORIGINALS, STRONG = 157, 229
QUALITIES = (3, 5, 8, 10, 15, 20, 30, 50, 75)
CROPS = (10, 15, 20, 30, 40, 50, 60, 70, 80)
_NAME = re.compile(r"^(\d+)\.jpg$", re.IGNORECASE)
# The archives unpack to the first name of each; the others are those of the archives, which many unpack into.
_ORIGINAL = ("original", "copydays_original", "copydays_original/original")
_STRONG = ("strong", "copydays_strong", "copydays_strong/strong")
_GRADED = {
    "jpegqual": (QUALITIES, ("jpegqual", "jpeg", "jpeg/jpegqual", "copydays_jpeg", "copydays_jpeg/jpegqual")),
    "crops": (CROPS, ("crops", "crop", "crop/crops", "copydays_crop", "copydays_crop/crops")),
}


def read_copydays(directory: str | Path, options: SourceOptions) -> JudgedPhotos:
    """Reads Copydays: 157 originals are the database; copies of them, in blocks by how they were made, the queries.

    A photo's name is a number whose hundreds are the same for an original and its copies. Blocks are `strong` (229
    photos, printed and scanned, painted and so on), `jpegqual_3` to `jpegqual_75` (the quality of a JPEG) and
    `crops_10` to `crops_80` (per cent of the area taken away), 157 photos each. They are measured one by one: a query's
    group is its block. Blocks whose folders are missing are left out, with a note; most papers give `strong` alone, and
    put 10,000 photos of others into the database (`tfretrieval.data.distractors`).

    DINO's evaluation also asks with the originals themselves; here they are no queries, since that each one finds
    itself says nothing. This is this toolkit's choice. copydays_original.tar.gz and copydays_strong.tar.gz are at
    https://dl.fbaipublicfiles.com/vissl/datasets/, which had them from
    http://pascal.inrialpes.fr/data/holidays/, with copydays_jpeg.tar.gz and copydays_crop.tar.gz.

    Args:
        directory: the folder, with the archives unpacked in it: original, strong, jpegqual/3, crops/10, ...
        options: none are read.

    Returns:
        Queries by block and name; the database by name. Ids are "strong/200001.jpg",
        "jpegqual/3/200000.jpg", "original/200000.jpg"; instances the hundreds.

    Raises:
        InputError: the folder, the originals or all copies are missing, a photo's name is no number, two originals
            have the same hundreds, or a copy has no original.
    """
    directory = need_folder(directory, "a folder with original and strong of Copydays")
    originals = _block(directory, _ORIGINAL, "original", "database")
    if not originals:
        raise InputError(f"--input={directory} has no folder original with photos; Copydays' 157 are wanted there.")
    row_of: dict[str, int] = {}
    for row, entry in enumerate(originals):
        if row_of.setdefault(entry.instance, row) != row:
            raise InputError(
                f"{entry.path} and {originals[row_of[entry.instance]].path} have the same hundreds; one original for "
                "each is wanted."
            )
    blocks = {"strong": _block(directory, _STRONG, "strong", "queries")}
    for kind, (grades, places) in _GRADED.items():
        for grade in grades:
            at = [f"{place}/{grade}" for place in places]
            blocks[f"{kind}_{grade}"] = _block(directory, at, f"{kind}/{grade}", "queries")
    queries, judgements = [], []
    for block, entries in blocks.items():
        for entry in entries:
            if entry.instance not in row_of:
                raise InputError(f"{entry.path} has no original {entry.instance}00.jpg; one is wanted for each copy.")
            queries.append(entry)
            judgements.append(QueryJudgement((row_of[entry.instance],), group=block))
    if not queries:
        raise InputError(
            f"--input={directory} has no folder with copies: strong, jpegqual/3, crops/10; some are wanted."
        )
    digest = sha256_of_names(entry.photo_id for entry in (*queries, *originals))
    return JudgedPhotos((*queries, *originals), tuple(judgements), "copydays", digest, _notes(blocks, originals))


def _block(directory: Path, places: tuple[str, ...] | list[str], name: str, split: str) -> list[PhotoEntry]:
    folder = next((folder for place in places if (folder := directory / place).is_dir() and photos_in(folder)), None)
    if folder is None:
        return []
    entries = []
    for file in photos_in(folder):
        match = _NAME.match(file)
        if not match:
            raise InputError(f"{folder} holds {shown(file)}; names like 200000.jpg are wanted.")
        entries.append(PhotoEntry(f"{name}/{file}", folder / file, str(int(match[1]) // 100), split))
    return entries


def _notes(blocks: dict[str, list[PhotoEntry]], originals: list[PhotoEntry]) -> tuple[str, ...]:
    counts = {"originals": (len(originals), ORIGINALS)}
    counts |= {
        block: (len(entries), STRONG if block == "strong" else ORIGINALS)
        for block, entries in blocks.items()
        if entries
    }
    notes = count_notes("Copydays", {what: pair for what, pair in counts.items() if pair[0] != pair[1]})
    absent = [block for block, entries in blocks.items() if not entries]
    return (
        (*notes, f"Copydays without the blocks {', '.join(absent)}: their folders are not there.") if absent else notes
    )
