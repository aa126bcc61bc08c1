"""Which database photos are right for which query, and which do not count."""

import dataclasses
from collections.abc import Sequence

import numpy as np

NOT_IN_DATABASE = -1


@dataclasses.dataclass(frozen=True)
class Relevance:
    """For each query, the database rows that are relevant and those that are junk; all others are wrong.

    Junk rows are taken out of a ranking before anything is counted. A row listed as both is junk.

    Attributes:
        kind: what decides: "instance" (equal labels).
        database: number of database photos, N.
        relevant: Q arrays of rows, int [R], each row in [0, N) and at most once; equal ones may be one object.
        junk: Q arrays of rows, int [J], in the same range.
    """

    kind: str
    database: int
    relevant: tuple[np.ndarray, ...]
    junk: tuple[np.ndarray, ...]

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
        return cls("instance", len(database_labels), relevant, junk)

    def __len__(self) -> int:
        return len(self.relevant)

    def select(self, queries: slice) -> "Relevance":
        """Returns the relevance of a run of queries."""
        return dataclasses.replace(self, relevant=self.relevant[queries], junk=self.junk[queries])

    def masks(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns one query's relevant and junk photos as bool [N] each; no photo is in both."""
        relevant, junk = np.zeros(self.database, bool), np.zeros(self.database, bool)
        relevant[self.relevant[query]] = True
        junk[self.junk[query]] = True
        return relevant & ~junk, junk


def own_rows(query_ids: Sequence[str], database_ids: Sequence[str]) -> np.ndarray:
    """Returns int64 [Q]: the database row with the query's own photo id, or -1 where the database lacks it."""
    row_of = {photo: row for row, photo in enumerate(database_ids)}
    return np.array([row_of.get(photo, NOT_IN_DATABASE) for photo in query_ids], np.int64)
