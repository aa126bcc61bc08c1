"""Cars196: Krause, Stark, Deng, Fei-Fei, "3D object representations for fine-grained categorization", 3dRR 2013."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tfretrieval.data.class_sets import with_queries
from tfretrieval.data.ground_truth_lists import shown
from tfretrieval.data.listed_photos import check_photos, find_file, need_folder, photo_name
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError

TRAINED_CLASSES = 98
_TOGETHER = "cars_annos.mat"
_DEVKIT = {"cars_train": "cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}
_FOLDERS = ("devkit", "car_devkit/devkit")


def read_cars196(directory: str | Path, options: SourceOptions) -> list[PhotoEntry]:
    """Reads Cars196: 16,185 photos of 196 models; the first 98 classes to train (8,054 photos), 98 to search (8,131).

    Whole photos, not the boxes. The set is published twice, with the same photos under other names: car_ims.tgz with
    cars_annos.mat (from http://ai.stanford.edu/~jkrause/car196/), and cars_train.tgz and cars_test.tgz with
    car_devkit.tgz and cars_test_annos_withlabels.mat (from https://ai.stanford.edu/~jkrause/cars/). Both hosts have
    been down at times; copies of the second are on Kaggle. The own split of the set is for classification, and photos
    of it are put together.

    Args:
        directory: the folder, with cars_annos.mat and car_ims; or with cars_train, cars_test, and cars_train_annos.mat,
            cars_test_annos_withlabels.mat and perhaps cars_meta.mat (the names), each in it or in devkit.
        options: none are read.

    Returns:
        Photos in the lists' order; ids are paths, "car_ims/000001.jpg" or "cars_train/00001.jpg"; instances the models'
        names, or the numbers of the classes without cars_meta.mat.

    Raises:
        InputError: the folder, a file or a photo is missing, or an entry is at fault.
    """
    directory = need_folder(directory, "a folder with cars_annos.mat and car_ims, or with cars_train and cars_test")
    together = find_file(directory, _TOGETHER, _FOLDERS)
    if together:
        files, photos = [together], list(_annotations(together, "relative_im_path", ""))
    else:
        found = {folder: find_file(directory, name, _FOLDERS) for folder, name in _DEVKIT.items()}
        missing = [name for folder, name in _DEVKIT.items() if found[folder] is None]
        if missing:
            raise InputError(
                f"--input={directory} has no {_TOGETHER}, and no {missing[0]}, in it or in devkit; the one, or "
                f"{' and '.join(_DEVKIT.values())}, are wanted."
            )
        files = list(found.values())
        photos = [photo for folder, file in found.items() for photo in _annotations(file, "fname", f"{folder}/")]
    names = _class_names(together or find_file(directory, "cars_meta.mat", _FOLDERS))
    trained, database, seen = [], [], {}
    for where, path, number in photos:
        if path in seen:
            raise InputError(f"{where} is {shown(path)}, as {seen[path]} is; each stands once.")
        seen[path] = where
        instance = names.get(number, str(number))
        split = "train" if number <= TRAINED_CLASSES else "database"
        (trained if split == "train" else database).append(PhotoEntry(path, directory / path, instance, split))
    if not trained or not database:
        raise InputError(
            f"{files[0]} has {len(trained)} photos to train and {len(database)} to search; both are wanted."
        )
    check_photos(" and ".join(map(str, files)), [*trained, *database])
    return with_queries(trained, database)


def _annotations(file: Path, path_field: str, folder: str) -> Iterator[tuple[str, str, int]]:
    """Yields (where, path, class from 1) of the structures `annotations` of a MATLAB file."""
    found = _read_matlab(file).get("annotations")
    fields = getattr(getattr(found, "dtype", None), "names", None) or ()
    missing = [name for name in (path_field, "class") if name not in fields]
    if missing:
        raise InputError(
            f"{file} lacks the field {missing[0]!r} in annotations (it has {', '.join(fields) or 'none'}); Cars196's "
            "annotations are wanted."
        )
    for number, entry in enumerate(found.ravel(), 1):
        where = f"{file}: annotations({number})"
        path, label = (_single(entry[name]) for name in (path_field, "class"))
        if not isinstance(label, (int, float)) or label < 1 or label != int(label):
            raise InputError(f"{where}: class is {shown(label)}; a whole number from 1 is wanted.")
        yield (
            where,
            photo_name(f"{where}: {path_field}", f"{folder}{path}" if isinstance(path, str) else path),
            int(label),
        )


def _class_names(file: Path | None) -> Mapping[int, str]:
    """Returns the models' names by their numbers, from 1; none where they are not told."""
    found = _read_matlab(file).get("class_names") if file else None
    if found is None:
        return {}
    names = [_single(name) for name in np.ravel(found)]
    wrong = [name for name in names if not isinstance(name, str) or not name.isprintable() or not name.strip()]
    if wrong or len(set(names)) < len(names):
        raise InputError(f"{file}: class_names holds {shown((wrong or names)[0])}; different names are wanted.")
    return dict(enumerate(names, 1))


def _single(value: object) -> object:
    """Takes a text or a number out of the arrays that MATLAB wraps it in."""
    while isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    return value.item() if isinstance(value, np.generic) else value


def _read_matlab(file: Path) -> dict:
    import scipy.io  # its import takes longer than that of all else here, for one format

    try:
        return scipy.io.loadmat(file)
    except Exception as error:  # a broken file makes SciPy's reader fail in many ways
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(f"{file} is not read as a MATLAB file ({reason}); one of Cars196's is wanted.") from error
