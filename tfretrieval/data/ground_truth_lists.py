"""Ground truth of the make of the revisited benchmarks: lists of photos, and for each query lists of rows in them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.data.restricted_pickle import read_plain_pickle
from tfretrieval.errors import InputError

MAX_MATLAB_BYTES = 128 << 20


@dataclasses.dataclass(frozen=True)
class ListedGroundTruth:
    """What such a file says, with its own names for the lists of photos.

    Attributes:
        imlist: names of the database's photos.
        qimlist: names of the queries.
        judgements: one for each query.
    """

    imlist: tuple[str, ...]
    qimlist: tuple[str, ...]
    judgements: tuple[QueryJudgement, ...]


def read_ground_truth_lists(path: str | Path, fields: Mapping[str, str], wanted: str) -> ListedGroundTruth:
    """Reads a ground-truth file.

    A pickle holds plain values alone: a dictionary with `imlist` and `qimlist`, lists of names, and `gnd`, a list with
    a dictionary for each query: `bbx`, the four numbers of its box, or None, and lists of rows of `imlist` from 0.
    A MATLAB file (versions 4 to 7.2) holds the same as cell arrays and an array of structures; its rows count from 1.

    Args:
        path: the file; MATLAB's where its name ends in .mat.
        fields: the fields of rows, and the grade ("easy", "hard" or "junk") that each is of. A query may lack its junk.
        wanted: what the file should be, as "the ground truth of ROxford5k", for the errors.

    Raises:
        InputError: the file cannot be read, lacks a field, or an entry is at fault; query, field and place are named.
    """
    path = Path(path)
    matlab = path.suffix == ".mat"
    content = _read_matlab(path, wanted) if matlab else read_plain_pickle(path, wanted)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; {wanted}, which is a dictionary, is wanted.")
    imlist, qimlist = (
        check_names(f"{path}: {name}", field(str(path), content, name)) for name in ("imlist", "qimlist")
    )
    gnd = field(str(path), content, "gnd")
    if len(gnd) != len(qimlist):
        raise InputError(f"{path}: gnd has {len(gnd)} entries for {len(qimlist)} of qimlist; one for each is wanted.")
    first = 1 if matlab else 0
    judgements = [
        _judgement(f"{path}: gnd[{query + first}] ({name})", entry, fields, len(imlist), first)
        for query, (name, entry) in enumerate(zip(qimlist, gnd, strict=True))
    ]
    return ListedGroundTruth(imlist, qimlist, tuple(judgements))


def field(where: str, content: object, name: str) -> Sequence:
    """Returns a list of a dictionary.

    Raises:
        InputError: it has no such field, or that is no list.
    """
    if not isinstance(content, dict):
        raise InputError(f"{where} is a {type(content).__name__}; a dictionary with {name!r} is wanted.")
    if name not in content:
        held = ", ".join(ascii(key)[:40] for key in list(content)[:8]) or "nothing"
        raise InputError(f"{where} lacks the field {name!r}; it holds {held}.")
    if not isinstance(content[name], (list, tuple)):
        raise InputError(f"{where}: {name} is a {type(content[name]).__name__}; a list is wanted.")
    return content[name]


def check_names(where: str, names: Sequence[object]) -> tuple[str, ...]:
    """Checks names of photos: text of one line, a path of plain parts below its folder, none twice.

    Raises:
        InputError: a name is at fault, or there is none.
    """
    place_of: dict[str, int] = {}
    for place, name in enumerate(names):
        if not is_photo_name(name):
            raise InputError(f"{where}[{place}] is {shown(name)}; a photo's name, fit for a file's, is wanted.")
        if name in place_of:
            raise InputError(f"{where}[{place}] is {shown(name)}, as {where}[{place_of[name]}] is; a name stands once.")
        place_of[name] = place
    if not place_of:
        raise InputError(f"{where} is empty; one photo or more is wanted.")
    return tuple(place_of)


def is_photo_name(name: object) -> bool:
    """Returns whether a value from a file can be the name of a photo below a folder, and cannot lead out of it."""
    if not isinstance(name, str) or not name.isprintable() or not name.strip() or "\\" in name or ":" in name:
        return False
    return not any(part in ("", ".", "..") for part in name.split("/"))


def check_rows(where: str, rows: object, count: int, first: int = 0) -> tuple[int, ...]:
    """Checks a list of rows of a list.

    Args:
        where: file, query and field, for the errors.
        rows: whole numbers.
        count: length of the list that they are rows of.
        first: the list's first row: 1 in MATLAB's files.

    Returns:
        The rows, counted from 0, in their order and with repetitions.

    Raises:
        InputError: it is no list, or one is no row.
    """
    if not isinstance(rows, (list, tuple)):
        raise InputError(f"{where} is {shown(rows)}; a list of rows of the database is wanted.")
    for place, row in enumerate(rows):
        if type(row) is not int or not first <= row < count + first:
            raise InputError(
                f"{where}[{place}] is {shown(row)}; a row of the database, {first} to {count + first - 1}, is wanted."
            )
    return tuple(row - first for row in rows)


def check_box(where: str, box: object) -> tuple[float, float, float, float]:
    """Checks a box of a photo: four finite numbers x1, y1, x2, y2 with an area.

    It is not held against the photo, which has not been opened.

    Raises:
        InputError: it is none.
    """
    plain = isinstance(box, (list, tuple)) and len(box) == 4 and all(type(side) in (int, float) for side in box)
    if not plain or not all(map(math.isfinite, box)) or not (box[0] < box[2] and box[1] < box[3]):
        raise InputError(f"{where} is {shown(box)}; four numbers x1 < x2 and y1 < y2 as [x1, y1, x2, y2] are wanted.")
    return tuple(map(float, box))


def shown(value: object) -> str:
    """Returns a value from a file, shortened, as it may stand in a sentence."""
    plain = value is None or isinstance(value, (str, bytes, int, float, list, tuple))
    return ascii(value)[:60] if plain else type(value).__name__


def _judgement(where: str, entry: object, fields: Mapping[str, str], count: int, first: int) -> QueryJudgement:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is a {type(entry).__name__}; a dictionary with {', '.join(fields)} is wanted.")
    missing = [name for name, grade in fields.items() if name not in entry and grade != "junk"]
    if missing or "bbx" not in entry:
        raise InputError(
            f"{where} lacks the field {(missing or ['bbx'])[0]!r}; bbx, {', '.join(fields)} are wanted, and it has "
            f"{', '.join(ascii(key)[:40] for key in list(entry)[:8]) or 'nothing'}."
        )
    box = None if entry["bbx"] is None else check_box(f"{where}: bbx", entry["bbx"])
    rows = {
        grade: check_rows(f"{where}: {name}", entry[name], count, first)
        for name, grade in fields.items()
        if name in entry
    }
    return QueryJudgement(**{"easy": (), **rows}, box=box)


def _read_matlab(path: Path, wanted: str) -> dict:
    """Reads a MATLAB file into lists, dictionaries and numbers as those of the pickles."""
    import scipy.io  # its import takes longer than that of all else here, for one format

    try:
        if path.stat().st_size > MAX_MATLAB_BYTES:
            raise InputError(f"{path} has more than {MAX_MATLAB_BYTES} bytes; {wanted}, no larger, is wanted.")
        content = scipy.io.loadmat(path, simplify_cells=True, variable_names=("imlist", "qimlist", "gnd"))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); {wanted} is wanted.") from error
    except Exception as error:  # a broken file makes SciPy's reader fail in many ways
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(f"{path} is not read as a MATLAB file ({reason}); {wanted} is wanted.") from error
    made = {name: _plain(content[name]) for name in ("imlist", "qimlist", "gnd") if name in content}
    for name in made:
        if not isinstance(made[name], list):  # one photo, or one query: SciPy takes it out of its array
            made[name] = [made[name]]
    for entry in made.get("gnd", ()):
        if isinstance(entry, dict):
            entry |= {name: [rows] for name, rows in entry.items() if type(rows) in (int, float)}
            if entry.get("bbx") == []:
                entry["bbx"] = None
    return made


def _plain(value: object) -> object:
    """Turns what SciPy made of MATLAB's arrays into lists; whole numbers, doubles in MATLAB, become int."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
