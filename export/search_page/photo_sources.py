"""The photos of an index: from the records that were described, or from a folder."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tfretrieval.data.record_set import RecordSet
from tfretrieval.errors import InputError
from tfretrieval.evaluation.album import Photos


def from_records(directory: str | Path, split: str | None, ids: Sequence[str]) -> Photos:
    """Returns the photos of a record set in the order of an index, with what they show.

    Args:
        directory: the record set.
        split: the split that was described; may be None where there is only one.
        ids: the index's photo ids.

    Raises:
        InputError: the records cannot be read, or lack a photo of the index.
    """
    records = RecordSet.load(directory)
    found = records.split(split)
    row_of = {photo: row for row, photo in enumerate(found.ids)}
    missing = [photo for photo in ids if photo not in row_of]
    if missing:
        raise InputError(
            f"--records={directory}: the split {found.name} lacks {len(missing)} of the {len(ids)} photos of the "
            f"index, first {missing[0]!r}; the records that were described are wanted."
        )
    photos = Photos.from_split(found, records.labels)
    rows = [row_of[photo] for photo in ids]
    shows = None if photos.shows is None else [photos.shows[row] for row in rows]
    return Photos(tuple(ids), [photos.instances[row] for row in rows], lambda row: photos.read(rows[row]), shows)


def from_folder(folder: str | Path, ids: Sequence[str]) -> Photos:
    """Returns photos that lie in a folder under their ids, such as `abbey/front.jpg`; each is named by its own folder.

    Photos that are not there are shown as missing. An id that leads out of the folder names none.

    Args:
        folder: the folder.
        ids: the index's photo ids.

    Raises:
        InputError: there is no such folder, or the first photo of the index is not in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"--photos={folder} is not a folder; the folder of the photos of the index is wanted.")

    def read(row: int) -> bytes | None:
        path = _inside(folder, ids[row])
        try:
            return None if path is None else path.read_bytes()
        except OSError:
            return None

    if ids and read(0) is None:
        raise InputError(f"--photos={folder} holds no file {ids[0]!r}, the first photo of the index; is it the folder?")
    names = [parent if (parent := PurePosixPath(photo).parent.as_posix()) != "." else "" for photo in ids]
    return Photos(tuple(ids), names, read)


def _inside(folder: Path, photo: str) -> Path | None:
    """Returns the path of a photo; None where its id is absolute or goes up."""
    path = PurePosixPath(photo)
    if path.is_absolute() or ".." in path.parts or "\\" in photo or "\0" in photo:
        return None
    return folder / path
