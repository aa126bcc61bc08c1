"""The sources of public benchmarks and training sets; to add one is a file beside this one and a line here."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tfretrieval.data import (
    cars196,
    class_sets,
    copydays,
    holidays,
    instre,
    landmarks,
    oxford,
    revisited,
    ukbench,
)
from tfretrieval.data.judgements import JudgedPhotos
from tfretrieval.data.listed_photos import count_notes
from tfretrieval.data.sources import SOURCES, PhotoEntry, SourceOptions

# Those that bring a benchmark's own judgements.
JUDGED_SOURCES: dict[str, Callable[[str | Path, SourceOptions], JudgedPhotos]] = {
    "roxford5k": revisited.read_roxford5k,
    "rparis6k": revisited.read_rparis6k,
    "oxford5k": oxford.read_oxford5k,
    "paris6k": oxford.read_paris6k,
    "holidays": holidays.read_holidays,
    "ukbench": ukbench.read_ukbench,
    "copydays": copydays.read_copydays,
    "instre": instre.read_instre,
    "gldv2_retrieval": landmarks.read_gldv2_retrieval,
    "gldv2_recognition": landmarks.read_gldv2_recognition,
}

# Those of plain labels: the general ones, which this package's other modules import, and sets of their own make.
LABELLED_SOURCES: dict[str, Callable[[str | Path, SourceOptions], list[PhotoEntry]]] = {
    **SOURCES,
    "cub200": class_sets.read_cub200,
    "cars196": cars196.read_cars196,
    "sop": class_sets.read_sop,
    "in_shop": class_sets.read_in_shop,
    "gldv1": landmarks.read_gldv1,
    "gldv2": landmarks.read_gldv2,
    "gldv2_clean": landmarks.read_gldv2_clean,
}

# Sources of plain labels whose benchmarks are measured by a protocol of their own.
LABEL_PROTOCOLS: dict[str, str] = {
    "cub200": "classes_1248",
    "cars196": "classes_1248",
    "sop": "classes_1_10_100_1000",
    "in_shop": "in_shop",
}

# Sources of plain labels whose photos of each split are counted in the literature.
PUBLISHED_COUNTS: dict[str, dict[str, int]] = {
    "cub200": {"train": 5864, "queries": 5924, "database": 5924},
    "cars196": {"train": 8054, "queries": 8131, "database": 8131},
    "sop": {"train": 59_551, "queries": 60_502, "database": 60_502},
    "in_shop": {"train": 25_882, "queries": 14_218, "database": 12_612},
    "gldv1": {"train": 1_225_029},
    "gldv2": {"train": 4_132_914},
    "gldv2_clean": {"train": 1_580_470},
}


def published_notes(source: str, photos: Mapping[str, int]) -> tuple[str, ...]:
    """Returns a sentence where a source of plain labels gave other numbers of photos than its publication has.

    Args:
        source: a key of `LABELLED_SOURCES`.
        photos: number of photos by split.
    """
    published = PUBLISHED_COUNTS.get(source, {})
    return count_notes(
        source, {f"photos of {split}": (photos.get(split, 0), count) for split, count in published.items()}
    )
