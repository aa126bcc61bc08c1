"""The directory of a job's work in progress: what each unit of it is, and which are done."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tfretrieval import files
from tfretrieval.beam.places import Places

PLAN, UNITS, DONE, DATA = "plan.json", "units", "done", "data"


@dataclasses.dataclass(frozen=True)
class Work:
    """A directory in which workers leave what they have done, each unit whole or not at all.

    A unit is done when `done/UNIT.json` is there, which appears after its file in `data`. It does not matter which
    worker does it, in which order, how often, and whether some are killed over it: whoever does it writes the same.

    Attributes:
        directory: the directory, as the machine that starts the job sees it.
        units: names of all units.
        places: how workers see it.
    """

    directory: Path
    units: tuple[str, ...]
    places: Places

    @classmethod
    def open(cls, directory: Path, inputs: Mapping[str, object], units: Mapping[str, object], places: Places) -> "Work":
        """Begins a job, or goes on with one that was begun with the same inputs and units; another one is forgotten.

        Args:
            directory: where; only this job's.
            inputs: what all of its units depend on, as JSON has it.
            units: what each unit needs to know, by name, as JSON has it.
            places: how workers see the directory.
        """
        digest = hashlib.sha256(json.dumps([inputs, units], sort_keys=True).encode()).hexdigest()
        begun = directory / PLAN
        if not begun.is_file() or files.read_json(begun, "the plan of a job").get("sha256") != digest:
            shutil.rmtree(directory, ignore_errors=True)
            for name in (UNITS, DONE, DATA):
                (directory / name).mkdir(parents=True)
            for name, told in units.items():
                files.write_text(directory / UNITS / f"{name}.json", json.dumps(told))
            files.write_json(begun, {"sha256": digest})
        return cls(directory, tuple(units), places)

    def missing(self) -> list[str]:
        """Returns the units that are not done, or whose file is gone."""
        done = lambda unit: (self.directory / DONE / f"{unit}.json").is_file() and self.data(unit).is_file()  # noqa: E731
        return [unit for unit in self.units if not done(unit)]

    def unit(self, unit: str) -> dict:
        """Returns what a unit was given to know; called by workers."""
        return json.loads(self.places.read_bytes(self.directory / UNITS / f"{unit}.json"))

    def commit(self, unit: str, scratch: Path, told: object) -> None:
        """Leaves a unit's file, and what is to be told of it; called by workers.

        Args:
            unit: the unit.
            scratch: the finished file, anywhere.
            told: as JSON has it.
        """
        self.places.put(scratch, self.data(unit))
        with tempfile.TemporaryDirectory() as folder:
            said = Path(folder) / "said.json"
            said.write_text(json.dumps(told), encoding="utf-8")
            self.places.put(said, self.directory / DONE / f"{unit}.json")

    def data(self, unit: str) -> Path:
        """Returns where a unit's file is, as the machine that starts the job sees it."""
        return self.directory / DATA / unit

    def told(self, unit: str) -> dict:
        """Returns what a unit that is done told."""
        return files.read_json(self.directory / DONE / f"{unit}.json", "what a unit of a job told")

    def remove(self) -> None:
        """Removes the directory."""
        shutil.rmtree(self.directory)


@contextlib.contextmanager
def locked(output: str | Path) -> Iterator[Path]:
    """Yields where the work for an output is done: beside it, so that files move there at once.

    Raises:
        InputError: another process is at it.
    """
    output = Path(output)
    lock = output.with_name(f".{output.name}.beam.lock")
    with files.locked(lock, f"{output} is being made by another process; one is wanted."):
        yield output.with_name(f".{output.name}.beam")
        lock.unlink(missing_ok=True)
