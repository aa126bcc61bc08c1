"""Descriptors that are written shard by shard, and go on from where they were when the work is cut off.

While the work goes on, its directory holds `extraction.json`, what it was begun with, and `shards/`: for each shard
that is done `00003.npy`, its descriptors, and `00003.json`, their checksum and the photos that were rejected, which
appears last. In the end they become an ordinary directory of descriptors, in which `meta.json` appears last.
"""

import csv
import dataclasses
import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfretrieval import files
from tfretrieval.errors import InputError

PLAN, SHARDS, CHECKSUMS, REJECTED = "extraction.json", "shards", "shards.json", "rejected.csv"
LOCK = ".lock"
_CHUNK = 1 << 24


class Part(NamedTuple):
    """Descriptors of some neighbouring photos of a split.

    Attributes:
        vectors: float32 [M, D], of the photos that could be read, in the order of their rows.
        rejected: of the others, the reason by row; the split's rows.
    """

    vectors: np.ndarray
    rejected: Mapping[int, str]


@dataclasses.dataclass(frozen=True)
class ShardedDescriptors:
    """A directory of descriptors that is written shard by shard.

    Shards are what may be done in any order and by several processes; a shard is there when its checksum is.

    Attributes:
        directory: the directory.
        inputs: what the descriptors follow from, by name: hashes, flags, versions.
        photos: N.
        shards: how many they are; each has N / shards photos, rounded down or up.
    """

    directory: Path
    inputs: Mapping[str, object]
    photos: int
    shards: int

    @classmethod
    def open(cls, directory: str | Path, inputs: Mapping[str, object], photos: int, shards: int):
        """Begins a directory, or goes on with one that was begun with the same inputs.

        Args:
            directory: the directory.
            inputs: values that JSON keeps as they are.
            photos: N, at least 1.
            shards: how many, at least 1; no more than N are made.

        Raises:
            InputError: the directory was begun with other inputs, or holds something else.
        """
        directory, shards = Path(directory), max(1, min(shards, photos))
        plan = {"inputs": json.loads(json.dumps(dict(inputs))), "photos": photos, "shards": shards}
        if (directory / PLAN).is_file():
            begun = files.read_json(directory / PLAN, "what an extraction was begun with")
            _check_same(directory, begun, plan)
        else:
            _check_empty(directory)
            directory.mkdir(parents=True, exist_ok=True)
            files.write_json(directory / PLAN, plan)
        return cls(directory, plan["inputs"], photos, shards)

    @property
    def finished(self) -> bool:
        """Whether the directory is complete."""
        return (self.directory / "meta.json").is_file()

    def rows(self, shard: int) -> range:
        """Returns the rows of a shard's photos."""
        return range(self.photos * shard // self.shards, self.photos * (shard + 1) // self.shards)

    def missing(self) -> list[int]:
        """Returns the shards that are still to be done; one whose bytes are not those of its checksum is among them."""
        if self.finished:
            return []
        return [shard for shard in range(self.shards) if not self._is_whole(shard)]

    def commit(self, shard: int, part: Part) -> None:
        """Writes a shard's descriptors; they count from the moment that all of them are on the disk.

        Args:
            shard: its number.
            part: the descriptors of its photos.
        """
        rows = self.rows(shard)
        if len(part.vectors) + len(part.rejected) != len(rows) or part.vectors.dtype != np.float32:
            raise ValueError(f"{len(part.vectors)} {part.vectors.dtype} vectors for a shard of {len(rows)} photos")
        vectors, told = self._paths(shard)
        vectors.parent.mkdir(exist_ok=True)
        data = np.ascontiguousarray(part.vectors, "<f4")
        with files.durable(vectors) as file:
            np.save(file, data)
        said = {
            "photos": len(data),
            "dimension": data.shape[1],
            "sha256": hashlib.sha256(memoryview(data).cast("B") if data.size else b"").hexdigest(),
            "rejected": [[row, part.rejected[row]] for row in sorted(part.rejected)],
        }
        with files.durable(told) as file:
            file.write((json.dumps(said, ensure_ascii=False) + "\n").encode())

    def rejected(self, shards: Iterable[int]) -> dict[int, str]:
        """Returns the photos rejected in shards that are done: reasons by row."""
        return {row: why for shard in shards for row, why in self._read(self._paths(shard)[1])["rejected"]}

    def finish(self, ids: Sequence[str], split: str, meta: Mapping[str, object]) -> None:
        """Makes the shards one directory of descriptors; may be cut off and called again.

        Args:
            ids: ids of the N photos.
            split: the split's name, for the list of rejected photos.
            meta: what made the descriptors, for `meta.json`.

        Raises:
            InputError: a shard's bytes have changed, or every photo was rejected.
        """
        if not self.finished:
            shards = [self._read(self._paths(shard)[1]) for shard in range(self.shards)]
            rejected = {row: why for said in shards for row, why in said["rejected"]}
            if len(rejected) == self.photos:
                raise InputError(f"all {self.photos} photos were rejected, first {ids[0]!r}: {rejected[0]}.")
            with files.durable(self.directory / "vectors.npy") as file:
                self._join(file, shards)
            with files.durable(self.directory / "ids.txt") as file:
                file.writelines(f"{photo}\n".encode() for row, photo in enumerate(ids) if row not in rejected)
            rows = ((ids[row], split, rejected[row]) for row in sorted(rejected))
            with files.durable(self.directory / REJECTED) as file:
                file.write(_csv_text([("photo", "split", "reason"), *rows]).encode())
            files.write_json(
                self.directory / CHECKSUMS, [{key: said[key] for key in ("photos", "sha256")} for said in shards]
            )
            files.write_json(self.directory / "meta.json", dict(meta))
        shutil.rmtree(self.directory / SHARDS, ignore_errors=True)
        for path in self.directory.glob(".*.partial"):  # of a start that was cut off while it wrote a file
            path.unlink()

    def _join(self, file: io.BufferedIOBase, shards: Sequence[dict]) -> None:
        """Writes the shards' descriptors as one .npy file."""
        shape = sum(said["photos"] for said in shards), max(said["dimension"] for said in shards)
        head = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, head)
        for shard, said in enumerate(shards):
            digest = hashlib.sha256()
            for chunk in _chunks(self._paths(shard)[0]):
                digest.update(chunk)
                file.write(chunk)
            if digest.hexdigest() != said["sha256"]:
                raise InputError(
                    f"{self._paths(shard)[0]} has changed since it was written; start the extraction again, which "
                    "does this shard anew."
                )

    def _paths(self, shard: int) -> tuple[Path, Path]:
        stem = self.directory / SHARDS / f"{shard:05d}"
        return stem.with_suffix(".npy"), stem.with_suffix(".json")

    def _is_whole(self, shard: int) -> bool:
        vectors, told = self._paths(shard)
        if not (told.is_file() and vectors.is_file()):
            return False
        try:
            digest = hashlib.sha256()
            for chunk in _chunks(vectors):
                digest.update(chunk)
            return digest.hexdigest() == self._read(told)["sha256"]
        except (InputError, ValueError, KeyError):
            return False

    @staticmethod
    def _read(path: Path) -> dict:
        return files.read_json(path, "the checksum of a shard of descriptors")


def _csv_text(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _chunks(path: Path) -> Iterator[bytes]:
    """Yields the bytes of an array's numbers."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        while chunk := file.read(_CHUNK):
            yield chunk


def _check_same(directory: Path, begun: dict, plan: dict) -> None:
    told = {**begun.get("inputs", {}), **{key: begun.get(key) for key in ("photos", "shards")}}
    given = {**plan["inputs"], "photos": plan["photos"], "shards": plan["shards"]}
    other = [name for name in sorted({*told, *given}) if told.get(name) != given.get(name)]
    if other:
        changes = "; ".join(f"{name} was {_short(told.get(name))} and is {_short(given.get(name))}" for name in other)
        raise InputError(
            f"--output={directory} was begun otherwise ({changes}); the same as then, or another --output, is wanted."
        )


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


def _check_empty(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file; a directory to write is wanted.")
    ours = {LOCK, f".{PLAN}.partial"}
    if directory.is_dir() and any(path.name not in ours for path in directory.iterdir()):
        raise InputError(
            f"--output={directory} holds other files and no {PLAN}; an empty or new directory, or one that an "
            "extraction in shards has begun, is wanted."
        )
