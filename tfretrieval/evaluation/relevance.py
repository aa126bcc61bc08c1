"""Which database photos are right for which query, and which do not count."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfretrieval.data.object_index import SplitObjects
from tfretrieval.data.record_set import BY_CONTENT, BY_INSTANCE, JUDGED

NOT_IN_DATABASE = -1


@dataclasses.dataclass(frozen=True)
class Relevance:
    """For each query, the database rows that are relevant and those that are junk; all others are wrong.

    Junk rows are taken out of a ranking before anything is counted. A row listed as both is junk, unless
    `junk_counts` says otherwise.

    Attributes:
        kind: what decides: "instance" (equal labels), "content" (a class of the query's objects is shown) or "judged"
            (the benchmark says so).
        database: number of database photos, N.
        relevant: Q arrays of rows, int [R], each row in [0, N) and at most once; equal ones may be one object.
        junk: Q arrays of rows, int [J], in the same range.
        judged_counts: int64 [Q], R of each query where it is not what is left of `relevant` without junk.
        junk_counts: a row listed as both is relevant, and lets those behind it move up as junk does.
    """

    kind: str
    database: int
    relevant: tuple[np.ndarray, ...]
    junk: tuple[np.ndarray, ...]
    judged_counts: np.ndarray | None = None
    junk_counts: bool = False

    def __post_init__(self):
        if len(self.relevant) != len(self.junk):
            raise ValueError(f"{len(self.relevant)} lists of relevant rows stand beside {len(self.junk)} of junk rows.")
        for rows in {id(rows): rows for rows in (*self.relevant, *self.junk)}.values():
            if len(rows) and (rows.min() < 0 or rows.max() >= self.database):
                raise ValueError(f"rows {rows.min()}..{rows.max()} leave the database of {self.database} photos.")

    @classmethod
    def by_instance(
        cls, query_labels: np.ndarray, database_labels: np.ndarray, own_rows: np.ndarray | None = None
    ) -> "Relevance":
        """Relevance by instance: photos with the query's label are relevant, the query's own photo is junk.

        Args:
            query_labels: int [Q].
            database_labels: int [N].
            own_rows: int [Q], the database row that is the query's own photo, -1 where there is none (see
                `own_rows`); none anywhere by default.
        """
        by_label = np.argsort(database_labels, kind="stable")
        labels, starts = np.unique(database_labels[by_label], return_index=True)
        rows_of = dict(zip(labels.tolist(), np.split(by_label, starts[1:]), strict=True)) if len(labels) else {}
        nothing = np.empty(0, np.int64)
        own = np.full(len(query_labels), NOT_IN_DATABASE) if own_rows is None else np.asarray(own_rows)
        junk = tuple(nothing if row == NOT_IN_DATABASE else np.array([row]) for row in own.tolist())
        relevant = tuple(rows_of.get(label, nothing) for label in np.asarray(query_labels).tolist())
        return cls(BY_INSTANCE, len(database_labels), relevant, junk)

    @classmethod
    def by_content(
        cls, queries: SplitObjects, database: SplitObjects, own_rows: np.ndarray | None = None
    ) -> "Relevance":
        """Relevance by what photos show: those with an object of one of the query's classes are relevant.

        Objects flagged difficult decide nothing (this toolkit's own rule, after the VOC challenge's): a query's do not
        count, and a database photo that shows the query's classes by such objects alone is junk, as the query's own
        photo is. A query without an object has no relevant photo.

        Args:
            queries: objects of the Q queries; a crop has one.
            database: objects of the N database photos.
            own_rows: int [Q], see `by_instance`.
        """
        clear = _rows_by_class(database, ~database.flag("difficult"))
        shown = _rows_by_class(database, np.ones(len(database.classes), bool))
        own = np.full(len(queries), NOT_IN_DATABASE) if own_rows is None else np.asarray(own_rows)
        counted = ~queries.flag("difficult")
        found: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
        relevant, junk = [], []
        for query, row in enumerate(own.tolist()):
            part = slice(queries.offsets[query], queries.offsets[query + 1])
            classes = tuple(np.unique(queries.classes[part][counted[part]]).tolist())
            if classes not in found:
                right = _union(clear, classes)
                found[classes] = right, np.setdiff1d(_union(shown, classes), right, assume_unique=True)
            right, doubtful = found[classes]
            relevant.append(right)
            junk.append(doubtful if row == NOT_IN_DATABASE else np.union1d(doubtful, [row]))
        return cls(BY_CONTENT, len(database), tuple(relevant), tuple(junk))

    @classmethod
    def by_judgement(
        cls, relevant: Sequence[np.ndarray], junk: Sequence[np.ndarray], database: int, sets: bool = False
    ) -> "Relevance":
        """Relevance as a benchmark's lists have it; what faulty lists mean is part of published figures.

        Args:
            relevant: Q lists of rows, int [R].
            junk: Q lists of rows, int [J].
            database: number of database photos.
            sets: take lists as the program of Oxford5k does (`compute_ap`): a row listed twice counts once, one listed
                as both is junk that is still missed among the relevant. Otherwise as that of the revisited benchmarks
                does (`compute_map`): a row listed as relevant twice is found once and counts twice in R, one listed as
                both is relevant and, for those behind it, junk.
        """
        unique = tuple(np.unique(rows) for rows in relevant)
        counts = np.array([len(rows) for rows in (unique if sets else relevant)], np.int64)
        return cls(JUDGED, database, unique, tuple(np.unique(rows) for rows in junk), counts, not sets)

    def __len__(self) -> int:
        return len(self.relevant)

    def counts(self) -> np.ndarray:
        """Returns int64 [Q]: R, the relevant photos of each query as its AP divides by them."""
        if self.judged_counts is not None:
            return self.judged_counts
        return np.array([len(self.rows(query)[0]) for query in range(len(self))], np.int64)

    def rows(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns one query's relevant and junk rows, int [H] and [J], each rising and each row once."""
        relevant, junk = np.unique(self.relevant[query]), np.unique(self.junk[query])
        if len(junk) and not self.junk_counts:
            relevant = np.setdiff1d(relevant, junk, assume_unique=True)
        return relevant, junk

    def listed(self) -> tuple[np.ndarray, ...]:
        """Returns the rows of each query that are relevant or junk, int64 [L], rising, each once."""
        return tuple(
            np.union1d(right, left_out).astype(np.int64)
            for right, left_out in zip(self.relevant, self.junk, strict=True)
        )

    def select(self, queries: slice) -> "Relevance":
        """Returns the relevance of a run of queries."""
        counts = None if self.judged_counts is None else self.judged_counts[queries]
        relevant, junk = self.relevant[queries], self.junk[queries]
        return dataclasses.replace(self, relevant=relevant, junk=junk, judged_counts=counts)

    def masks(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns one query's relevant and junk photos as bool [N] each; only with `junk_counts` may one be in both."""
        relevant, junk = np.zeros(self.database, bool), np.zeros(self.database, bool)
        for mask, rows in zip((relevant, junk), self.rows(query), strict=True):
            mask[rows] = True
        return relevant, junk


def _rows_by_class(objects: SplitObjects, counted: np.ndarray) -> dict[int, np.ndarray]:
    """Returns the photos that show each class, rising, each once; `counted` bool [C] says which objects count."""
    photos = max(len(objects), 1)
    pairs = np.unique(objects.classes[counted].astype(np.int64) * photos + objects.rows()[counted])
    classes, starts = np.unique(pairs // photos, return_index=True)
    return dict(zip(classes.tolist(), np.split(pairs % photos, starts[1:]), strict=True)) if len(classes) else {}


def _union(rows_of: dict[int, np.ndarray], classes: tuple[int, ...]) -> np.ndarray:
    rows = [rows_of[label] for label in classes if label in rows_of]
    return np.unique(np.concatenate(rows)) if rows else np.empty(0, np.int64)


def own_rows(query_ids: Sequence[str], database_ids: Sequence[str]) -> np.ndarray:
    """Returns int64 [Q]: the database row with the query's own photo id, or -1 where the database lacks it."""
    row_of = {photo: row for row, photo in enumerate(database_ids)}
    return np.array([row_of.get(photo, NOT_IN_DATABASE) for photo in query_ids], np.int64)
