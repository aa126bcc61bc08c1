"""Where the photos of a stream come from: a folder, or a split of records; read one by one, as they are needed."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from tfretrieval.data import query_crops
from tfretrieval.data.query_crops import WHOLE
from tfretrieval.data.record_set import Split
from tfretrieval.data.sources import PHOTO_SUFFIXES, check_name
from tfretrieval.errors import InputError


@dataclasses.dataclass(frozen=True)
class NamedPhotos:
    """Photos with names, which each iteration reads afresh as pairs (id, encoded image).

    Attributes:
        ids: the names.
        read: starts reading: an iterator of the encoded photos, in the order of `ids`.
    """

    ids: tuple[str, ...]
    read: Callable[[], Iterator[bytes]]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return zip(self.ids, self.read(), strict=True)


def photos_in_folder(folder: str | Path) -> NamedPhotos:
    """Finds the photos in a folder and the folders in it, by the endings of their names; hidden ones are left out.

    Args:
        folder: where they are.

    Returns:
        The photos by their paths below `folder` with forward slashes, sorted. Reading raises `InputError` for a file
        that has gone or that may not be read.

    Raises:
        InputError: it is no folder, holds no photo, or one whose name cannot be written on a line.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; one with photos is wanted.")
    paths = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix.lower() in PHOTO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    }
    if not paths:
        raise InputError(f"{folder} holds no photo ({', '.join(sorted(PHOTO_SUFFIXES))}).")
    ids = tuple(sorted(paths))
    for name in ids:
        check_name(paths[name])
    return NamedPhotos(ids, lambda: (_read(paths[name]) for name in ids))


def photos_of_split(split: Split, image_size: int | None = None, query_crop: str = WHOLE) -> NamedPhotos:
    """Takes the photos of a record split as they are encoded in it; queries with a box may be cut out.

    Args:
        split: the split.
        image_size: of the model, which crops are scaled for; see `query_crops.encoded_crops`.
        query_crop: one of `query_crops.QUERY_CROPS`.

    Returns:
        The photos by their ids, in the split's order. Reading raises what `query_crops.encoded_crops` does.
    """
    return NamedPhotos(split.ids, lambda: query_crops.encoded_crops(split, image_size, query_crop))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
