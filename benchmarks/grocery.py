"""The lists of GroceryStoreDataset (Klasson, Zhang, Kjellstrom, WACV 2019) as csv sources of the benchmarks."""

import csv
from pathlib import Path

from tfretrieval.errors import InputError


def write_list(dataset: Path, output: Path) -> None:
    """Writes the protocol as a csv source: photo, instance, split.

    Raises:
        InputError: the dataset is not there.
    """
    rows = []
    for source, even in (("train.txt", "database"), ("test.txt", "query")):
        for photo, name, fine in listed_photos(dataset, source):
            split = even if fine % 2 == 0 else "train" if source == "train.txt" else None
            if split:
                rows.append((photo, name, split))
    write_rows(rows, output)


def write_training_photos(dataset: Path, output: Path) -> None:
    """Writes the photos of all three lists with an odd fine id as a csv source: none of them is searched or found."""
    sources = ("train.txt", "val.txt", "test.txt")
    listed = [photo for source in sources for photo in listed_photos(dataset, source)]
    write_rows([(photo, name, "train") for photo, name, fine in listed if fine % 2], output)


def listed_photos(dataset: Path, source: str) -> list[tuple[str, str, int]]:
    """Returns (photo, product, fine id) of a list of the dataset.

    Raises:
        InputError: the list is not there.
    """
    if not (dataset / source).is_file():
        raise InputError(f"--data: {dataset / source} is missing; GroceryStoreDataset's folder is wanted there.")
    with (dataset / "classes.csv").open(newline="", encoding="utf-8") as lines:
        names = {row["Class ID (int)"]: row["Class Name (str)"] for row in csv.DictReader(lines)}
    lines = (dataset / source).read_text(encoding="utf-8").splitlines()
    rows = [[field.strip() for field in line.split(",")[:2]] for line in lines if line.strip()]
    return [(photo, names[fine], int(fine)) for photo, fine in rows]


def write_rows(rows: list[tuple[str, str, str]], output: Path) -> None:
    """Writes (photo, instance, split) rows as a csv source."""
    with output.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("photo", "instance", "split"), *rows])
