"""Record sets on a worker: where they are, or a copy that holds only the shards in use."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfretrieval.beam.places import Places
from tfretrieval.data.judgement_index import JUDGEMENT_INDEX
from tfretrieval.data.object_index import OBJECT_INDEX
from tfretrieval.data.record_set import DESCRIPTION, JUDGED, PHOTO_INDEX
from tfretrieval.files import read_json


@dataclasses.dataclass(frozen=True)
class RecordsOnWorker:
    """A record set whose files are at hand while they are used.

    Attributes:
        source: the record set, as the machine that starts the job sees it.
        places: how workers see it.
        directory: what is to be opened: `source` itself, or a copy. Shards in the copy are empty files of the right
            size, which take no space, but for those in use.
    """

    source: Path
    places: Places
    directory: Path

    @classmethod
    def open(cls, source: Path, places: Places, folder: Path) -> "RecordsOnWorker":
        """Makes a record set available.

        Args:
            source: the record set.
            places: how this worker sees it.
            folder: where a copy may be made.
        """
        if places.url(source) is None:
            return cls(source, places, source)
        copy = folder / "records"
        copy.mkdir(parents=True)
        made = cls(source, places, copy)
        made._copy(DESCRIPTION)
        description = read_json(copy / DESCRIPTION, "a record set's description")
        indices = {"objects": OBJECT_INDEX, JUDGED: JUDGEMENT_INDEX}
        for name in (PHOTO_INDEX, *(file for key, file in indices.items() if key in description)):
            made._copy(name)
        for split in description["splits"].values():
            for shard in split["shards"]:
                made._empty(shard["file"], shard["bytes"])
        return made

    @contextlib.contextmanager
    def holding(self, shards: Iterable[Path]) -> Iterator[None]:
        """Has the contents of shards at hand while its block runs.

        Args:
            shards: files in `directory`.
        """
        held = [] if self.directory == self.source else sorted({path.name for path in shards})
        try:
            for name in held:
                self._copy(name)
            yield
        finally:
            for name in held:
                self._empty(name, (self.directory / name).stat().st_size)

    def _copy(self, name: str) -> None:
        folder = self.directory / ".fetched"
        shutil.move(self.places.fetch(self.source / name, folder), self.directory / name)

    def _empty(self, name: str, size: int) -> None:
        with (self.directory / name).open("wb") as file:
            file.truncate(size)
