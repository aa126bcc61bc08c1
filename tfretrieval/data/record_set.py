"""A directory of record shards: `dataset.json`, `photos.csv` and `SPLIT-00000-of-00001.tfrecord` files."""

import array
import csv
import dataclasses
from pathlib import Path

import numpy as np

from tfretrieval import files
from tfretrieval.data.judgement_index import JUDGEMENT_INDEX, read_judgements
from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.data.object_index import OBJECT_INDEX, SplitObjects, read_objects_index
from tfretrieval.errors import InputError

DESCRIPTION = "dataset.json"
BENCHMARK = "benchmark.json"
PHOTO_INDEX = "photos.csv"
BY_INSTANCE, BY_CONTENT, JUDGED = "instance", "content", "judged"  # what makes a benchmark's database photos relevant
INDEX_COLUMNS = ("split", "shard", "offset", "length", "photo", "label", "height", "width")


@dataclasses.dataclass(frozen=True)
class Split:
    """The photos of one split, in the order of its shards.

    Attributes:
        name: "train", "validation", "queries" or "database".
        shards: the split's files.
        shard: int32 [N], index into `shards` of each photo's record.
        offset: int64 [N], where the record's data begins in its shard, in bytes.
        length: int64 [N], bytes of the record's data.
        ids: N photo ids.
        labels: int64 [N], index of each photo's instance in the set's label map.
        sizes: int32 [N, 2], height and width in pixels.
        objects: the photos' objects, in sets of a source with objects; otherwise None.
        judgements: N judgements, of the queries of a benchmark that has them; otherwise None.
    """

    name: str
    shards: tuple[Path, ...]
    shard: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    ids: tuple[str, ...]
    labels: np.ndarray
    sizes: np.ndarray
    objects: SplitObjects | None = None
    judgements: tuple[QueryJudgement, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, rows: range) -> "Split":
        """Returns some neighbouring photos as a split of their own, without their objects."""
        here = slice(rows.start, rows.stop)
        fields = ("shard", "offset", "length", "ids", "labels", "sizes", "judgements")
        values = {name: getattr(self, name) for name in fields}
        cut = {name: None if value is None else value[here] for name, value in values.items()}
        return dataclasses.replace(self, **cut, objects=None)

    def read(self, row: int) -> bytes:
        """Returns the serialised record of one photo, read from its place in its shard.

        Raises:
            InputError: the shard ends before the record does.
        """
        path = self.shards[self.shard[row]]
        with path.open("rb") as file:
            file.seek(int(self.offset[row]))
            data = file.read(int(self.length[row]))
        if len(data) != self.length[row]:
            raise InputError(
                f"{path} is truncated: the record of {self.ids[row]!r} is cut short; make the records again."
            )
        return data


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """A directory of records that `pipelines.make_records` wrote.

    Attributes:
        directory: where it is.
        name: the set's name.
        labels: instance names; a photo's label is an index into them.
        splits: the splits by name.
        sha256: hash over the shards' hashes; names the data in every result made from it.
        classes: names of the objects' classes, in sets of a source with objects; `labels` begins with them.
    """

    directory: Path
    name: str
    labels: tuple[str, ...]
    splits: dict[str, Split]
    sha256: str
    classes: tuple[str, ...] = ()

    @classmethod
    def load(cls, directory: str | Path) -> "RecordSet":
        """Opens a record set and checks that its shards are there with the sizes they were written with.

        Raises:
            InputError: the directory, its description, its index or a shard is missing, cut short or inconsistent.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise InputError(
                f"--records={directory} is not a directory; the output of pipelines.make_records is wanted."
            )
        description = files.read_json(directory / DESCRIPTION, "the output of pipelines.make_records")
        try:
            shards = {
                split: [Shard(**shard) for shard in value["shards"]] for split, value in description["splits"].items()
            }
            name, labels, digest = description["name"], tuple(description["labels"]), description["sha256"]
            classes = tuple(description.get("classes", ()))
            index = Shard(photos=0, **description["objects"]["index"]) if classes else None
            judged = Shard(photos=0, **description[JUDGED]["index"]) if JUDGED in description else None
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{directory / DESCRIPTION} is not a record set's description ({error!r}); make it again."
            ) from error
        for shard in (shard for group in shards.values() for shard in group):
            _check_size(directory / shard.file, shard.bytes)
        splits = _read_index(directory, shards)
        if index:
            _check_size(directory / OBJECT_INDEX, index.bytes)
            counts = {split: len(value) for split, value in splits.items()}
            objects = read_objects_index(directory / OBJECT_INDEX, counts, len(classes))
            splits = {split: dataclasses.replace(value, objects=objects[split]) for split, value in splits.items()}
        if judged and "queries" in splits:
            _check_size(directory / JUDGEMENT_INDEX, judged.bytes)
            queries, database = splits["queries"], splits.get("database", ())
            judgements = read_judgements(directory / JUDGEMENT_INDEX, len(queries), len(database))
            splits["queries"] = dataclasses.replace(queries, judgements=judgements)
        return cls(directory, name, labels, splits, digest, classes)

    def split(self, name: str | None = None) -> Split:
        """Returns a split by name, or the only one when no name is given.

        Raises:
            InputError: there is no such split, or several and none was named.
        """
        if name is None and len(self.splits) == 1:
            return next(iter(self.splits.values()))
        if name not in self.splits:
            found = ", ".join(sorted(self.splits))
            raise InputError(
                f"{self.directory} holds the splits {found}; --split={name or ''} does not name one of them."
            )
        return self.splits[name]

    def verify(self) -> None:
        """Reads every shard, and the index of objects or judgements, and compares their SHA-256 with `dataset.json`'s.

        Raises:
            InputError: a file's bytes have changed.
        """
        description = files.read_json(self.directory / DESCRIPTION, "a record set")
        listed = [shard for value in description["splits"].values() for shard in value["shards"]]
        listed += [description[key]["index"] for key in ("objects", JUDGED) if key in description]
        for file in listed:
            if files.sha256(self.directory / file["file"]) != file["sha256"]:
                raise InputError(
                    f"{self.directory / file['file']} has changed since it was written; make the records again."
                )


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard as `dataset.json` lists it: file name, SHA-256, size in bytes, number of photos."""

    file: str
    sha256: str
    bytes: int
    photos: int


def _check_size(path: Path, size: int) -> None:
    if not path.is_file():
        raise InputError(f"{path} is missing; dataset.json lists it with {size} bytes.")
    if path.stat().st_size != size:
        raise InputError(
            f"{path} is truncated or changed: it has {path.stat().st_size} bytes and dataset.json lists {size}."
        )


def _read_index(directory: Path, shards: dict[str, list[Shard]]) -> dict[str, Split]:
    """Reads `photos.csv` into one `Split` each."""
    path = directory / PHOTO_INDEX
    columns = {name: _Columns({shard.file: index for index, shard in enumerate(shards[name])}) for name in shards}
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.reader(lines)
            if tuple(next(reader, ())) != INDEX_COLUMNS:
                raise InputError(
                    f"{path} does not begin with the columns {', '.join(INDEX_COLUMNS)}; make the records again."
                )
            for row in reader:
                columns[row[0]].add(row)
        splits = {name: columns[name].split(directory, name) for name in shards}
    except FileNotFoundError:
        raise InputError(f"{path} is missing; it is part of what pipelines.make_records writes.") from None
    except (KeyError, IndexError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} has a line that cannot be read ({error!r}); make the records again.") from error
    for name, split in splits.items():
        if len(split) != sum(shard.photos for shard in shards[name]):
            raise InputError(
                f"{path} lists {len(split)} photos of {name!r}, unlike dataset.json; make the records again."
            )
    return splits


class _Columns:
    """The index of one split, line by line into numbers: as texts, a million photos would take a gigabyte.

    Args:
        shards: the place of each shard's file name.
    """

    def __init__(self, shards: dict[str, int]):
        self._shards, self._ids = shards, []
        self._numbers = array.array("q")  # shard, offset, length, label, height, width

    def add(self, row: list[str]) -> None:
        """Takes a line."""
        self._ids.append(row[4])
        self._numbers.extend((self._shards[row[1]], *(int(row[column]) for column in (2, 3, 5, 6, 7))))

    def split(self, directory: Path, name: str) -> Split:
        """Returns the split."""
        numbers = np.frombuffer(self._numbers, np.int64) if self._ids else np.zeros(0, np.int64)
        shard, offset, length, label, height, width = numbers.reshape(-1, 6).T
        return Split(
            name=name,
            shards=tuple(directory / file for file in self._shards),
            shard=shard.astype(np.int32),
            offset=offset.copy(),
            length=length.copy(),
            ids=tuple(self._ids),
            labels=label.copy(),
            sizes=np.stack([height, width], axis=1).astype(np.int32),
        )
