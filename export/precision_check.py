"""What a frozen network's precision costs, measured against the Keras model in float32."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from export import parity
from export.example_photos import example_photos
from export.precision import BFLOAT16, FLOAT32, INT8, PRECISIONS
from tfretrieval.data import decoding
from tfretrieval.data.record_set import BENCHMARK, JUDGED, RecordSet
from tfretrieval.errors import InputError
from tfretrieval.evaluation.benchmark import Benchmark
from tfretrieval.evaluation.evaluate import evaluate
from tfretrieval.extraction import Extractor

# The least cosine that is let through where --min_cosine does not say another. float32 differs by the order of sums.
LEAST_COSINE = {FLOAT32: 0.99999, BFLOAT16: 0.999, INT8: 0.999}
_DIGITS = 6


@dataclasses.dataclass(frozen=True)
class PrecisionSettings:
    """The precision of an export, what it is measured on and has to reach; `export.saved_model` has a flag for each.

    Attributes:
        precision: Arithmetic and weights of the exported network; see docs/export.md.
        check_records: Records that the exported network is compared with the Keras model on; generated photos when not
            given.
        check_split: Split of these records; queries and database, with the change of mAP, when not given and there.
        min_cosine: Least cosine of a photo's two descriptors; an export below it is refused. By default 0.99999 for
            float32 and 0.999 for bfloat16 and int8.
    """

    precision: str = dataclasses.field(default=FLOAT32, metadata={"choices": tuple(PRECISIONS)})
    check_records: str | None = None
    check_split: str | None = None
    min_cosine: float | None = None

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise InputError(f"--precision={self.precision} is unknown; one of {', '.join(PRECISIONS)} is wanted.")
        if self.min_cosine is not None and not -1 <= self.min_cosine <= 1:
            raise InputError(f"--min_cosine={self.min_cosine}; a cosine from -1 to 1 is wanted.")
        if self.check_split and not self.check_records:
            raise InputError(f"--check_split={self.check_split} was given without --check_records.")

    @property
    def least_cosine(self) -> float:
        """The least cosine that is let through."""
        return LEAST_COSINE[self.precision] if self.min_cosine is None else self.min_cosine


def check(model: Callable, exported: Callable, image_size: int, settings: PrecisionSettings, what: str = "") -> dict:
    """Compares an exported network with the model that it was made of, photo by photo.

    Args:
        model: the Keras model in float32, or another callable of (images, training) with `output_shape`.
        exported: the network to judge, called likewise.
        image_size: longer side of the photos in pixels.
        settings: which photos, and the least cosine.
        what: the flag that errors name; --precision by default.

    Returns:
        For the card: `photos`, how many; `of`, the records' name and splits, or "generated photos"; `records`, their
        hash, or None; `min_cosine`, `mean_cosine` and `least_cosine`, which was wanted; with queries and a database
        whose relevance is known also `map_float32`, `map` and `map_change`. Numbers are rounded to 6 digits.

    Raises:
        InputError: a photo's cosine is below the least, the descriptors are not finite, or the records do not fit.
    """
    what, least = what or f"--precision={settings.precision}", settings.least_cosine
    told, pairs = _describe(model, exported, image_size, settings)
    for _, values in pairs.values():
        if not np.isfinite(values).all():
            raise InputError(f"{what}: a descriptor is not finite; nothing was written.")
    one, other = (np.concatenate([pair[side] for pair in pairs.values()]) for side in (0, 1))
    agreement = parity.compare({"Keras": one, what: other})
    if not agreement.min_cosine >= least:
        raise InputError(
            f"{what}: the cosine to float32 falls to {agreement.min_cosine:.6f} on {told['of']}, below "
            f"--min_cosine={least}; nothing was written."
        )
    told |= {"photos": agreement.photos, "min_cosine": agreement.min_cosine, "mean_cosine": agreement.mean_cosine}
    if settings.check_records and {"queries", "database"} <= pairs.keys():
        told |= _change_of_map(Path(settings.check_records), pairs)
    told = {key: round(value, _DIGITS) if isinstance(value, float) else value for key, value in told.items()}
    return {**told, "least_cosine": least}


def _describe(
    model: Callable, exported: Callable, image_size: int, settings: PrecisionSettings
) -> tuple[dict, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Returns what is compared, and by split both networks' descriptors."""
    if not settings.check_records:
        photos = [decoding.decode_photo(tf.constant(photo), image_size) for photo in example_photos(image_size)]
        found = tuple(
            np.concatenate([network(photo[tf.newaxis], training=False) for photo in photos])
            for network in (model, exported)
        )
        return {"of": "generated photos", "records": None}, {"generated": found}
    records = RecordSet.load(settings.check_records)
    both = {"queries", "database"} <= records.splits.keys() and not settings.check_split
    splits = [records.split(name) for name in (("queries", "database") if both else (settings.check_split,))]
    extractors = [Extractor(network, image_size) for network in (model, exported)]
    pairs = {split.name: tuple(extractor(split) for extractor in extractors) for split in splits}
    if not any(len(split) for split in splits):
        raise InputError(
            f"--check_records={settings.check_records} has no photos in {splits[0].name}; some are wanted."
        )
    return {"of": f"{records.name}: {' and '.join(pairs)}", "records": records.sha256}, pairs


def _change_of_map(directory: Path, pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Returns the mAP of both networks, where the records are a benchmark whose relevance labels tell."""
    if not (directory / BENCHMARK).is_file():
        return {}
    benchmark = Benchmark.load(directory)
    if benchmark.relevance_kind == JUDGED:
        return {}
    relevance = benchmark.relevance()
    before, after = (evaluate(pairs["queries"][side], pairs["database"][side], relevance).map for side in (0, 1))
    return {"map_float32": float(before), "map": float(after), "map_change": float(after - before)}
