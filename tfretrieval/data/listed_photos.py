"""What the readers of benchmarks share: text and csv lists, folders of photos, and checks that all are there."""

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tfretrieval import files
from tfretrieval.data.ground_truth_lists import is_photo_name, shown
from tfretrieval.data.sources import PHOTO_SUFFIXES, PhotoEntry
from tfretrieval.errors import InputError

# A line of Google-Landmarks' clean list names all photos of a landmark; csv's own limit of 131,072 allows 7,710.
_MAX_CSV_FIELD = 1 << 24


def need_folder(directory: str | Path, wanted: str) -> Path:
    """Returns a folder's path.

    Args:
        directory: the folder.
        wanted: what it should hold, for the error: "a folder with ...".

    Raises:
        InputError: it is not there.
    """
    if not Path(directory).is_dir():
        raise InputError(f"--input={directory} is not a folder; {wanted} is wanted.")
    return Path(directory)


def find_file(directory: Path, name: str, folders: Sequence[str] = ()) -> Path | None:
    """Returns the file of that name in a folder or, after it, in the first of some folders below; None without one."""
    places = (directory, *(directory / folder for folder in folders))
    return next((place / name for place in places if (place / name).is_file()), None)


def need_file(directory: Path, name: str, wanted: str, folders: Sequence[str] = ()) -> Path:
    """Returns what `find_file` finds.

    Raises:
        InputError: it finds nothing.
    """
    found = find_file(directory, name, folders)
    if found is None:
        beside = f", and its folders {', '.join(folders)}" if folders else ""
        raise InputError(f"--input={directory} has no {name} in it{beside}; {wanted} is wanted.")
    return found


def photos_in(folder: Path) -> list[str]:
    """Returns the names of the photos that lie in a folder, sorted; hidden files and those below it are left out."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def photos_below(directory: Path, folders: Sequence[str]) -> tuple[Path, list[str]]:
    """Returns the first of some folders that holds photos, the directory itself coming last, and their names, sorted.

    Where none holds any, it is the directory, and no names.
    """
    for folder in (*(directory / folder for folder in folders), directory):
        if folder.is_dir() and (names := photos_in(folder)):
            return folder, names
    return directory, []


def read_lines(file: Path, wanted: str) -> Iterator[tuple[int, str]]:
    """Yields (line number from 1, text without space around it) of a text file; empty lines are left out.

    Args:
        file: the file, UTF-8.
        wanted: what it should be, for the errors.

    Raises:
        InputError: it cannot be read as text.
    """
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if text := line.strip():
                    yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as UTF-8 text ({error}); {wanted} is wanted.") from error


def read_words(file: Path, columns: Sequence[str], wanted: str, skip: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Yields (line number, words) of a file with a word for each column on each line.

    Args:
        file: the file, UTF-8.
        columns: names of the columns, for the errors.
        wanted: what the file should be, for the errors.
        skip: lines at the top that are none of the table.

    Raises:
        InputError: it cannot be read, or a line has another number of words.
    """
    for number, text in read_lines(file, wanted):
        words = text.split()
        if number > skip:
            if len(words) != len(columns):
                raise InputError(
                    f"{file} line {number} has {len(words)} words ({shown(text)}); {len(columns)}, "
                    f"{' '.join(columns)}, are wanted."
                )
            yield number, words


def csv_columns(file: Path, wanted: str) -> list[str]:
    """Returns the names of a csv file's columns, as its first line has them.

    Raises:
        InputError: it cannot be read as text.
    """
    _, first = next(read_lines(file, wanted), (0, ""))
    return [name.strip() for name in next(csv.reader([first]), [])]


def read_csv_rows(file: Path, columns: Sequence[str], wanted: str) -> Iterator[tuple[int, list[str]]]:
    """Yields (line number, fields of the columns asked for) of a csv file with a header, one row at a time.

    Further columns are not read, empty lines are left out.

    Args:
        file: the file, UTF-8.
        columns: names of the columns, in the order to return them.
        wanted: what the file should be, for the errors.

    Raises:
        InputError: it cannot be read, lacks a column, or a line has more or fewer fields than the header.
    """
    before = csv.field_size_limit(_MAX_CSV_FIELD)
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.reader(text)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in columns if name not in header]
            if missing:
                raise InputError(
                    f"{file} lacks the column {missing[0]!r} in its first line ({shown(','.join(header))}); {wanted} "
                    f"with {', '.join(columns)} is wanted."
                )
            places = [header.index(name) for name in columns]
            for row in reader:
                if len(row) == len(header):
                    yield reader.line_num, [row[place] for place in places]
                elif row:
                    raise InputError(
                        f"{file} line {reader.line_num} has {len(row)} fields; {len(header)}, as in the first line, "
                        "are wanted."
                    )
    except csv.Error as error:
        raise InputError(f"{file} line {reader.line_num}: {error}; {wanted} is wanted.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as UTF-8 text ({error}); {wanted} is wanted.") from error
    finally:
        csv.field_size_limit(before)


def whole_number(where: str, text: str, least: int = 0) -> int:
    """Reads a whole number.

    Args:
        where: file, line and field, for the error.
        text: its digits.
        least: the smallest one wanted.

    Raises:
        InputError: it is none, or smaller.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or int(text) < least:
        raise InputError(f"{where} is {shown(text)}; a whole number from {least} is wanted.")
    return int(text)


def photo_name(where: str, text: str) -> str:
    """Returns a photo's name or path below a folder, as it stands in a list.

    Raises:
        InputError: it leads out of the folder, or is no name.
    """
    if not is_photo_name(text):
        raise InputError(f"{where} is {shown(text)}; a photo's name, below its folder, is wanted.")
    return text


def add_once(where: str, key: str, line: int, lines: dict[str, int]) -> None:
    """Notes the line of a key.

    Raises:
        InputError: it stood there before.
    """
    if key in lines:
        raise InputError(f"{where} is {shown(key)}, as on line {lines[key]}; each stands once.")
    lines[key] = line


def photos_folder(directory: Path, folders: Sequence[str], names: Iterable[str]) -> Path:
    """Returns the first of some folders that holds one of the photos, the directory itself coming last.

    Where none holds any, it is the first folder, for the sentence that says so.
    """
    names = list(names)
    candidates = [*(directory / folder for folder in folders), directory]
    there = [folder for folder in candidates if folder.is_dir()]
    return next((folder for folder in there if any((folder / name).is_file() for name in names)), candidates[0])


def check_photos(listed: str, entries: Sequence[PhotoEntry]) -> None:
    """Checks that the files of all photos are there.

    Args:
        listed: what names them, for the error.
        entries: the photos.

    Raises:
        InputError: some are not; the first is named, and they are counted.
    """
    missing = [entry.path for entry in entries if not entry.path.is_file()]
    if missing:
        raise InputError(
            f"{listed} names {len(entries)} photos and {len(missing)} are not there, first {missing[0]}; all are "
            "wanted, since results are compared by the same photos."
        )


def count_notes(name: str, counts: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    """Returns a sentence where counts differ from the published ones, none otherwise.

    Args:
        name: the benchmark.
        counts: by what is counted: found and published.
    """
    if all(found == published for found, published in counts.values()):
        return ()
    told = ", ".join(f"{found:,} {what} ({published:,})" for what, (found, published) in counts.items())
    return (f"{name} as given differs from the published one (in brackets), and so will its figures: {told}.",)


def sha256_of_files(paths: Sequence[Path]) -> str:
    """Returns the SHA-256 of a file, or one over the names and hashes of several, in the order of their names."""
    if len(paths) == 1:
        return files.sha256(paths[0])
    return sha256_of_names(f"{path.name}\0{files.sha256(path)}" for path in sorted(paths, key=lambda path: path.name))


def sha256_of_names(names: Iterable[str]) -> str:
    """Returns one SHA-256 over names, a line each, where names are all the ground truth there is."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


def rows_by(entries: Sequence[PhotoEntry], key: Callable[[PhotoEntry], str]) -> dict[str, tuple[int, ...]]:
    """Returns the rows of photos in their list by some key of them."""
    rows: dict[str, list[int]] = {}
    for row, entry in enumerate(entries):
        rows.setdefault(key(entry), []).append(row)
    return {name: tuple(found) for name, found in rows.items()}
