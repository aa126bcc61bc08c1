"""Benchmarks of metric learning: sets of classes of which some are for training, and the photos of the others searched.

How they are used is told by Oh Song, Xiang, Jegelka, Savarese, "Deep metric learning via lifted structured feature
embedding", CVPR 2016: classes of train and test are different ones, and each test photo is a query among all others.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tfretrieval.data.ground_truth_lists import shown
from tfretrieval.data.listed_photos import (
    add_once,
    check_photos,
    need_file,
    need_folder,
    photo_name,
    read_words,
    whole_number,
)
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError

_SOP_COLUMNS = ("image_id", "class_id", "super_class_id", "path")
_IN_SHOP_SPLITS = {"train": "train", "query": "queries", "gallery": "database"}


def with_queries(trained: Sequence[PhotoEntry], database: Sequence[PhotoEntry]) -> list[PhotoEntry]:
    """Returns photos to train with and photos to search, each of these a query too, under the same id.

    A query's own photo is left out of its ranking: see `tfretrieval.evaluation.benchmark`.
    """
    return [*trained, *(dataclasses.replace(entry, split="queries") for entry in database), *database]


def read_cub200(directory: str | Path, options: SourceOptions) -> list[PhotoEntry]:
    """Reads CUB-200-2011: 11,788 photos of 200 birds; classes 1 to 100 to train, 101 to 200 to search.

    Whole photos, not the boxes. CUB_200_2011.tgz is at https://data.caltech.edu/records/65de6-vp158. Its own
    train_test_split.txt is for classification and is not used.

    Args:
        directory: the folder, CUB_200_2011 or the one it is in, with images.txt ("1 001.Name/Photo.jpg"),
            image_class_labels.txt ("1 1") and images.
        options: none are read.

    Returns:
        Photos in the list's order; ids are its paths, instances the folders in them.

    Raises:
        InputError: the folder, a list or a photo is missing, or a line of a list is at fault.
    """
    directory = need_folder(directory, "the folder CUB_200_2011")
    wanted = "the folder CUB_200_2011 with images.txt, image_class_labels.txt and images"
    images = need_file(directory, "images.txt", wanted, ("CUB_200_2011",))
    labels = need_file(images.parent, "image_class_labels.txt", wanted)
    class_of: dict[str, int] = {}
    lines: dict[str, int] = {}
    for line, (number, label) in read_words(labels, ("image", "class"), "image_class_labels.txt of CUB-200-2011"):
        add_once(f"{labels} line {line}: the image", number, line, lines)
        class_of[number] = whole_number(f"{labels} line {line}: the class", label, 1)
    trained, database, seen, numbers = [], [], {}, {}
    for line, (number, path) in read_words(images, ("image", "path"), "images.txt of CUB-200-2011"):
        where = f"{images} line {line}"
        add_once(f"{where}: the path", photo_name(f"{where}: the path", path), line, seen)
        add_once(f"{where}: the image", number, line, numbers)
        if number not in class_of:
            raise InputError(f"{where}: the image {shown(number)} is not in {labels}; a class for each is wanted.")
        split = trained if class_of[number] <= 100 else database
        name = "train" if class_of[number] <= 100 else "database"
        instance = path.rpartition("/")[0] or str(class_of[number])
        split.append(PhotoEntry(path, images.parent / "images" / path, instance, name))
    _check(images, trained, database)
    return with_queries(trained, database)


def read_sop(directory: str | Path, options: SourceOptions) -> list[PhotoEntry]:
    """Reads Stanford Online Products: 59,551 photos of 11,318 products to train, 60,502 of 11,316 to search.

    Stanford_Online_Products.zip (2.9 GB) is at https://cvgl.stanford.edu/projects/lifted_struct/.

    Args:
        directory: the folder, with Ebay_train.txt, Ebay_test.txt (a line of column names, image_id class_id
            super_class_id path, and then one for each photo) and the folders of photos, bicycle_final and so on.
        options: none are read.

    Returns:
        Photos in the lists' order; ids are their paths, instances the class_id.

    Raises:
        InputError: the folder, a list or a photo is missing, a line of a list is at fault, or a class is in both.
    """
    directory = need_folder(directory, "the folder Stanford_Online_Products")
    wanted = "the folder Stanford_Online_Products with Ebay_train.txt, Ebay_test.txt and the photos"
    files = [
        need_file(directory, name, wanted, ("Stanford_Online_Products",))
        for name in ("Ebay_train.txt", "Ebay_test.txt")
    ]
    trained, database = (_read_ebay(file, split) for file, split in zip(files, ("train", "database"), strict=True))
    classes = {entry.instance for entry in trained}
    shared = next((entry for entry in database if entry.instance in classes), None)
    if shared:
        raise InputError(
            f"{files[1]} has the class {shared.instance} with {shown(shared.photo_id)}, as {files[0]} has; classes to "
            "train and to search that differ are wanted."
        )
    _check(" and ".join(map(str, files)), trained, database)
    return with_queries(trained, database)


def _read_ebay(file: Path, split: str) -> list[PhotoEntry]:
    entries, seen = [], {}
    for line, words in read_words(file, _SOP_COLUMNS, f"{file.name} of Stanford Online Products"):
        if line == 1 and tuple(words) == _SOP_COLUMNS:
            continue
        _, label, _, path = words
        where = f"{file} line {line}"
        whole_number(f"{where}: class_id", label, 1)
        add_once(f"{where}: path", photo_name(f"{where}: path", path), line, seen)
        entries.append(PhotoEntry(path, file.parent / path, label, split))
    return entries


def read_in_shop(directory: str | Path, options: SourceOptions) -> list[PhotoEntry]:
    """Reads DeepFashion's In-Shop Clothes: 25,882 photos to train, 14,218 queries, 12,612 photos of the gallery.

    Liu et al., "DeepFashion", CVPR 2016: 3,997 items to train, 3,985 others to search. Figures of recall are for 1, 10,
    20, 30, 40 and 50. http://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html leads to img.zip and
    list_eval_partition.txt.

    Args:
        directory: the folder, with list_eval_partition.txt, in it or in Eval (a line with the number of photos, one of
            column names, image_name item_id evaluation_status, and then one for each photo), and img, in it or in Img.
        options: none are read.

    Returns:
        Photos in the list's order; ids are its paths, instances the item_id.

    Raises:
        InputError: the folder, the list or a photo is missing, or a line of the list is at fault.
    """
    directory = need_folder(directory, "a folder with list_eval_partition.txt and img of In-Shop")
    wanted = "list_eval_partition.txt of In-Shop, with the photos in img beside it,"
    file = need_file(directory, "list_eval_partition.txt", wanted, ("Eval", "Anno", "Anno/Eval"))
    root = next((folder for folder in (directory / "Img", directory) if (folder / "img").is_dir()), directory)
    columns = ("image_name", "item_id", "evaluation_status")
    splits: dict[str, list[PhotoEntry]] = {split: [] for split in _IN_SHOP_SPLITS.values()}
    seen: dict[str, int] = {}
    for line, (path, item, status) in read_words(file, columns, wanted, skip=2):
        where = f"{file} line {line}"
        if status not in _IN_SHOP_SPLITS:
            raise InputError(f"{where}: evaluation_status is {shown(status)}; train, query or gallery is wanted.")
        add_once(f"{where}: image_name", photo_name(f"{where}: image_name", path), line, seen)
        split = _IN_SHOP_SPLITS[status]
        splits[split].append(PhotoEntry(path, root / path, item, split))
    entries = [entry for split in splits.values() for entry in split]
    _check(file, splits["queries"], splits["database"], splits["train"])
    return entries


def _check(listed: Path | str, *parts: Sequence[PhotoEntry]) -> None:
    """Checks that lists name photos of their first two parts, and that the photos are there."""
    for part, what in zip(parts, ("first", "second"), strict=False):
        if not part:
            raise InputError(f"{listed} names no photo of the {what} part; photos of both are wanted.")
    check_photos(str(listed), [entry for part in parts for entry in part])
