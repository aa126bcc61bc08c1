"""Where photos come from: each source turns what a user has into a sorted list of `PhotoEntry` values."""

import csv
import dataclasses
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from tfretrieval.data import retrieval_sfm
from tfretrieval.data.objects import PhotoObjects
from tfretrieval.errors import InputError

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})
SPLITS = ("train", "validation", "queries", "database")
_SPLIT_WORDS = {
    "train": "train",
    "val": "validation",
    "validation": "validation",
    "query": "queries",
    "queries": "queries",
    "database": "database",
    "index": "database",
}
_BOX_COLUMNS = ("xmin", "ymin", "xmax", "ymax")


@dataclasses.dataclass(frozen=True)
class PhotoEntry:
    """One photo named by a source.

    Attributes:
        photo_id: the photo's name in every later file; unique within a split.
        path: where its file is.
        instance: name of the instance it shows.
        split: one of `SPLITS`.
        boxes: (xmin, ymin, xmax, ymax) tuples of the instance's boxes, in pixels of the upright photo.
        objects: the photo's objects, of sources that name them (`tfretrieval.data.object_sources`).
    """

    photo_id: str
    path: Path
    instance: str
    split: str
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    objects: PhotoObjects | None = None


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """Options of the sources.

    Attributes:
        holdout_share: folder: share of the instances held out for evaluation, in [0, 1].
        query_share: folder: share of each held-out instance's photos that become queries, in (0, 1).
        photos_root: csv: folder that relative photo paths start from; the csv file's own folder by default. Google
            Landmarks: folder that train, index and test are in; the input by default.
        seed: folder: seed of the choice of held-out instances and of queries.
        photo_list: retrieval_sfm: name of the .pkl file in the folder; not needed where there is one. Google Landmarks:
            name of the csv list, where it is not the usual one.
    """

    holdout_share: float = 0.0
    query_share: float = 0.34
    photos_root: str | None = None
    seed: int = 0
    photo_list: str | None = None


def read_folder(directory: str | Path, options: SourceOptions) -> list[PhotoEntry]:
    """Reads a tree with one folder per instance; the leaf folder is the instance, nested folders are allowed.

    The instance's name is the leaf folder's path below `directory`. Held-out instances are drawn by the seed among
    those with two or more photos; a share of their photos become queries, the rest the database.

    Args:
        directory: the tree's root.
        options: `holdout_share`, `query_share` and `seed` are read.

    Returns:
        Entries sorted by photo id, which is the path below `directory` with forward slashes.

    Raises:
        InputError: the folder is missing, holds no photo in a subfolder, or a share is out of range.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(
            f"--input={directory} is not a folder; a folder with one subfolder of photos per instance is wanted."
        )
    if not 0 <= options.holdout_share <= 1:
        raise InputError(f"--holdout_share is {options.holdout_share}; a share from 0 to 1 is wanted.")
    if not 0 < options.query_share < 1:
        raise InputError(f"--query_share is {options.query_share}; a share between 0 and 1 is wanted.")
    photos = sorted(
        path
        for path in directory.rglob("*")
        if path.suffix.lower() in PHOTO_SUFFIXES
        and path.is_file()
        and path.parent != directory
        and not any(part.startswith(".") for part in path.relative_to(directory).parts)
    )
    if not photos:
        raise InputError(
            f"--input={directory} holds no photo in a subfolder ({', '.join(sorted(PHOTO_SUFFIXES))}); "
            "one subfolder of photos per instance is wanted."
        )
    by_instance: dict[str, list[Path]] = defaultdict(list)
    for path in photos:
        check_name(path)
        by_instance[path.parent.relative_to(directory).as_posix()].append(path)
    split_of = _hold_out(by_instance, options)
    return sorted(
        (
            PhotoEntry(path.relative_to(directory).as_posix(), path, instance, split_of.get(path, "train"))
            for instance, paths in by_instance.items()
            for path in paths
        ),
        key=lambda entry: entry.photo_id,
    )


def check_name(path: Path) -> None:
    """Refuses file names that lists of ids, one a line in UTF-8, cannot hold."""
    name = str(path)
    if "\n" in name or "\r" in name or name.encode(errors="replace").decode() != name:
        raise InputError(f"{name!r} is not a name of one line in UTF-8; rename the file or its folder.")


def _hold_out(by_instance: dict[str, list[Path]], options: SourceOptions) -> dict[Path, str]:
    """Draws the held-out instances and, within each, its queries; returns the split of their photos."""
    if not options.holdout_share:
        return {}
    rng = random.Random(options.seed)  # noqa: S311 - a repeatable draw is wanted, not a secret one
    candidates = sorted(instance for instance, paths in by_instance.items() if len(paths) > 1)
    count = min(len(candidates), max(1, round(options.holdout_share * len(by_instance))))
    if not count:
        raise InputError("--holdout_share needs an instance with two or more photos, and every instance has only one.")
    left = len(by_instance) - count
    if left < 2 and options.holdout_share < 1:
        raise InputError(
            f"--holdout_share={options.holdout_share} of {len(by_instance)} instances leaves {left} to train; two or "
            "more are wanted there: add folders, or hold out all (1) or none (0)."
        )
    split_of = {}
    for instance in sorted(rng.sample(candidates, count)):
        paths = by_instance[instance]
        queries = set(rng.sample(paths, min(len(paths) - 1, max(1, math.floor(options.query_share * len(paths))))))
        split_of |= {path: "queries" if path in queries else "database" for path in paths}
    return split_of


def read_csv(file: str | Path, options: SourceOptions) -> list[PhotoEntry]:
    """Reads a csv file with the columns photo, instance and split, and optionally xmin, ymin, xmax, ymax.

    `photo` is a path, absolute or relative to `photos_root`, and becomes the photo's id as written. `split` is train,
    validation, query or database. Boxes are in pixels of the upright photo; a photo with several boxes has a row for
    each. One photo may stand in the queries and in the database: it is then left out of its own ranking.

    Args:
        file: the csv file, UTF-8, with a header line.
        options: `photos_root` is read.

    Returns:
        Entries sorted by photo id within each split.

    Raises:
        InputError: the file is missing or a line is at fault; the sentence names the line and the column.
    """
    file = Path(file)
    if not file.is_file():
        raise InputError(f"--input={file} is not a file; a csv file with the columns photo, instance, split is wanted.")
    root = Path(options.photos_root) if options.photos_root else file.parent
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            missing = [column for column in ("photo", "instance", "split") if column not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{file} lacks the column {missing[0]!r}; found {reader.fieldnames}, wanted photo, instance, split."
                )
            entries = _merge_rows(file, ((reader.line_num, row) for row in reader), root)
    except csv.Error as error:
        raise InputError(f"{file} line {reader.line_num}: {error}; a csv file is wanted.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text ({error}); a csv file is wanted.") from error
    if not entries:
        raise InputError(f"{file} names no photo; a line per photo is wanted.")
    return sorted(entries, key=lambda entry: (SPLITS.index(entry.split), entry.photo_id))


def _merge_rows(file: Path, rows: Iterable[tuple[int, dict]], root: Path) -> list[PhotoEntry]:
    """Makes one entry per (photo, split), gathering the boxes of its rows."""
    entries: dict[tuple[str, str], PhotoEntry] = {}
    for line, row in rows:
        where = f"{file} line {line}"
        photo_id, instance = (row["photo"] or "").strip(), (row["instance"] or "").strip()
        if not photo_id or "\n" in photo_id or "\r" in photo_id:
            raise InputError(f"{where}: photo is {photo_id!r}; a path on one line is wanted.")
        if not instance:
            raise InputError(f"{where}: instance is empty; the name of what the photo shows is wanted.")
        split = _SPLIT_WORDS.get((row["split"] or "").strip().lower())
        if split is None:
            raise InputError(f"{where}: split is {row['split']!r}; one of {', '.join(_SPLIT_WORDS)} is wanted.")
        box = _box(where, row)
        earlier = entries.get((photo_id, split))
        if earlier and (earlier.instance != instance or not box):
            raise InputError(
                f"{where}: {photo_id!r} stands there again; only a further box of {earlier.instance!r} may repeat it."
            )
        boxes = (*earlier.boxes, box) if earlier else ((box,) if box else ())
        entries[photo_id, split] = PhotoEntry(photo_id, root / photo_id, instance, split, boxes)
    return list(entries.values())


def _box(where: str, row: dict) -> tuple[float, float, float, float] | None:
    """Reads a row's box; None where its four columns are absent or empty."""
    texts = [(row.get(column) or "").strip() for column in _BOX_COLUMNS]
    if not any(texts):
        return None
    try:
        xmin, ymin, xmax, ymax = map(float, texts)
    except ValueError:
        raise InputError(
            f"{where}: the box is {texts}; four numbers xmin, ymin, xmax, ymax in pixels are wanted."
        ) from None
    if not (0 <= xmin < xmax and 0 <= ymin < ymax and all(map(math.isfinite, (xmax, ymax)))):
        raise InputError(f"{where}: the box is {texts}; 0 <= xmin < xmax and 0 <= ymin < ymax are wanted.")
    return xmin, ymin, xmax, ymax


def read_retrieval_sfm(directory: str | Path, options: SourceOptions) -> list[PhotoEntry]:
    """Reads a folder with a list of photos as retrieval-SfM-120k.pkl is one, and the photos in `ims` or `train`.

    A photo's id is its `cid`, its instance its `cluster`, the file's split val is validation here. In a list without
    clusters, for whitening, each photo is an instance of its own. See `tfretrieval.data.retrieval_sfm`.

    Args:
        directory: the folder.
        options: `photo_list` is read. Without it, the folder's only .pkl file is taken, or the only one beside those
            for whitening, which end in -whiten.pkl.

    Returns:
        Entries sorted by photo id within each split.

    Raises:
        InputError: the folder, its list or its photos' folder is missing, several lists are there and none is named,
            or the list is at fault.
    """
    directory = Path(directory)
    file = _photo_list(directory, options.photo_list)
    path_of = retrieval_sfm.photo_paths(directory)
    entries = [
        PhotoEntry(cid, path_of(cid), instance, _SPLIT_WORDS[name])
        for name, split in retrieval_sfm.read_paired_photos(file).items()
        for cid, instance in zip(split.cids, split.cluster or split.cids, strict=True)
    ]
    return sorted(entries, key=lambda entry: (SPLITS.index(entry.split), entry.photo_id))


def _photo_list(directory: Path, name: str | None) -> Path:
    wanted = "a folder with retrieval-SfM-120k.pkl, say, and ims is wanted"
    if not directory.is_dir():
        raise InputError(f"--input={directory} is not a folder; {wanted}.")
    files = sorted(path.name for path in directory.glob("*.pkl"))
    if name is None:
        lists = [file for file in files if not file.endswith("-whiten.pkl")] or files
        if len(lists) != 1:
            found = f"{len(lists)} lists, {', '.join(lists)}" if lists else "no .pkl file"
            raise InputError(f"--input={directory} holds {found}; --photo_list, the name of one there, is wanted.")
        return directory / lists[0]
    if name not in files:
        raise InputError(
            f"--photo_list={name} is not in --input={directory}, which holds {', '.join(files) or 'no .pkl file'}; "
            "a name of one there is wanted."
        )
    return directory / name


SOURCES: dict[str, Callable[[str | Path, SourceOptions], list[PhotoEntry]]] = {
    "folder": read_folder,
    "csv": read_csv,
    "retrieval_sfm": read_retrieval_sfm,
}
