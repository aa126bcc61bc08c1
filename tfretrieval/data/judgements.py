"""What a benchmark says of its queries: which database photos are right, which do not count, and where to look."""

import dataclasses
from collections.abc import Sequence

from tfretrieval.data.sources import PhotoEntry

GRADES = ("easy", "hard", "junk")
UNLABELLED = "(no label)"  # the instance of photos that a benchmark judges without naming what they show


@dataclasses.dataclass(frozen=True)
class QueryJudgement:
    """One query's ground truth, as its benchmark gives it.

    What the grades mean for a measurement is the protocol's matter (`tfretrieval.evaluation.protocols`). Lists are kept
    as they were given, with repetitions and with rows in two of them: published numbers depend on that.

    Attributes:
        easy: rows of the database, from 0, in the order of the benchmark's own list of photos. Benchmarks with one
            grade of relevance have it here; Oxford5k and Paris6k have their "good" photos here.
        hard: relevant too; Oxford5k's and Paris6k's "ok" photos.
        junk: neither right nor wrong.
        box: (x1, y1, x2, y2) in pixels of the query photo, as its file stores it where a source gives the box (the
            benchmarks' own tools do not read EXIF orientations) and of the upright photo in records; it may reach
            beyond the photo. None where the whole photo is the query.
        group: which queries it is measured with, where a benchmark measures them in groups ("public", "strong").
    """

    easy: tuple[int, ...]
    hard: tuple[int, ...] = ()
    junk: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    group: str = ""


@dataclasses.dataclass(frozen=True)
class JudgedPhotos:
    """A benchmark's photos with its ground truth, as a source with judgements reads them.

    Attributes:
        entries: queries and database photos (and perhaps others), each in the benchmark's own order.
        judgements: one for each entry of the split "queries", in their order.
        protocol: name of the protocol it is measured by, a key of `tfretrieval.evaluation.protocols.PROTOCOLS`.
        sha256: hash of the file or files of the ground truth.
        notes: sentences that a user should know (counts that differ from the published ones, say).
        distractors: how many of the database's last photos are no part of the benchmark itself.
    """

    entries: tuple[PhotoEntry, ...]
    judgements: tuple[QueryJudgement, ...]
    protocol: str
    sha256: str
    notes: tuple[str, ...] = ()
    distractors: int = 0

    def __post_init__(self):
        queries = sum(entry.split == "queries" for entry in self.entries)
        if queries != len(self.judgements):
            raise ValueError(f"{len(self.judgements)} judgements stand beside {queries} queries.")
        check_rows(self.judgements, sum(entry.split == "database" for entry in self.entries))


def check_rows(judgements: Sequence[QueryJudgement], database: int) -> None:
    """Checks that judgements name rows of a database of so many photos.

    Raises:
        ValueError: one does not; its query, counted from 0, its list and the row are named.
    """
    for query, judgement in enumerate(judgements):
        for grade in GRADES:
            outside = [row for row in getattr(judgement, grade) if not 0 <= row < database]
            if outside:
                raise ValueError(f"{grade} of query {query} has the row {outside[0]} in a database of {database}.")
