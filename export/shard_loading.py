"""What describes photos, as something that can be sent to another process and loaded there."""

import contextlib
import dataclasses
from pathlib import Path

from export import describing
from export.running import RunningOptions, prepare
from tfretrieval.data.record_set import RecordSet
from tfretrieval.sharded_extraction import PartDescriber


@dataclasses.dataclass(frozen=True)
class LoadedParts:
    """Loads a model and a split of records; see `describing.from_model`.

    Attributes:
        split: the split's name.
        batch: most photos run together.
        which: of a run directory, the network.
        query_crop: how queries with a box are cut.
        running: how a run's network computes.
    """

    split: str
    batch: int
    which: str
    query_crop: str
    running: RunningOptions

    def __call__(self, model: Path, records: Path) -> PartDescriber:
        """Loads them.

        Args:
            model: folder of a SavedModel, or a run directory.
            records: a record set.
        """
        with contextlib.suppress(RuntimeError):  # TensorFlow computes in this process already, with what it was given
            prepare(self.running)
        how = {"query_crop": self.query_crop, "running": self.running}
        describer = describing.from_model(model, self.batch, self.which, **how)
        return describer.parts_of(RecordSet.load(records).split(self.split))
