"""The figures of one condition of a protocol, gathered query by query from the places of listed photos."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tfretrieval.evaluation import metrics
from tfretrieval.evaluation.counting import Places
from tfretrieval.evaluation.protocols import FURTHER, PRECISIONS, Protocol
from tfretrieval.evaluation.relevance import Relevance


@dataclasses.dataclass(frozen=True)
class ConditionResult:
    """What rankings are worth under one condition.

    Attributes:
        figures: means over the queries that have a relevant photo, by their key in metrics.json: "map", "mp@1", ...,
            "recall@1", ..., and the protocol's further ones; NaN where they are not defined.
        ap: float64 [Q], the protocol's average precision; NaN for queries without a relevant photo under the
            condition.
        first_relevant_rank: int64 [Q], place of the first relevant photo from 1, junk left out; 0 where the ranking
            holds none.
        relevant: int64 [Q], relevant photos, as AP divides by them.
        recall_at: R@k by k.
        precision_at_shares: float64 [101], mean precision at which 0 %, 1 %, ... 100 % of the relevant are found.
    """

    figures: Mapping[str, float]
    ap: np.ndarray
    first_relevant_rank: np.ndarray
    relevant: np.ndarray
    recall_at: Mapping[int, float]
    precision_at_shares: np.ndarray

    @property
    def map(self) -> float:
        """Mean of the defined `ap`; NaN where no query has a relevant photo."""
        return self.figures["map"]

    @property
    def queries(self) -> int:
        """Number of queries that the means are of."""
        return int(np.sum(self.relevant > 0))


class ConditionMeter:
    """Measures queries as they come in.

    Args:
        protocol: says what is measured.
        queries: how many there will be.
    """

    def __init__(self, protocol: Protocol, queries: int):
        self._protocol = protocol
        names = ("map", *(f"mp@{k}" for k in protocol.precision_at), *protocol.further)
        self._values = {name: np.full(queries, np.nan) for name in names}
        self._first, self._relevant = np.zeros(queries, np.int64), np.zeros(queries, np.int64)
        self._shares, self._done = np.zeros(len(metrics.SHARES)), 0

    def add(self, places: Places, relevance: Relevance) -> None:
        """Takes in the next queries.

        Args:
            places: of their listed rows, among them all that are relevant or junk.
            relevance: of these queries.
        """
        for query, relevant in enumerate(relevance.counts().tolist()):
            at, self._done = self._done, self._done + 1
            self._relevant[at] = relevant
            if relevant:
                ranks = junk_free_ranks(places, query, *relevance.rows(query))
                self._first[at] = metrics.first_relevant_rank(ranks)
                self._shares += metrics.precision_at_shares(ranks, relevant)
                for name, value in self._measure(ranks, relevant).items():
                    self._values[name][at] = value

    def _measure(self, ranks: np.ndarray, relevant: int) -> dict[str, float]:
        protocol = self._protocol
        precision = PRECISIONS[protocol.precision]
        return {
            "map": protocol.average_precision(ranks, relevant),
            **{f"mp@{k}": precision(ranks, relevant, k) for k in protocol.precision_at},
            **{name: FURTHER[name](ranks, relevant) for name in protocol.further},
        }

    def result(self) -> ConditionResult:
        """Returns the figures of all queries."""
        measured = self._relevant > 0
        means = {name: _mean(values[measured]) for name, values in self._values.items()}
        recall_at = {k: metrics.recall_at(self._first[measured], k) for k in self._protocol.recall_at}
        return ConditionResult(
            figures={**means, **{f"recall@{k}": value for k, value in recall_at.items()}},
            ap=self._values["map"],
            first_relevant_rank=self._first,
            relevant=self._relevant,
            recall_at=recall_at,
            precision_at_shares=self._shares / max(1, int(measured.sum())),
        )


def junk_free_ranks(places: Places, query: int, relevant: np.ndarray, junk: np.ndarray) -> np.ndarray:
    """Returns int64 [H]: 0-based ranks, rising, of the relevant photos that are ranked, once junk is taken out.

    Junk moves what stands behind it, and not itself: of a photo that is listed as both, the rank is that among the
    others, as in the published code of revisited Oxford and Paris.

    Args:
        places: of listed rows.
        query: which.
        relevant: int, rows, each once.
        junk: int, rows, each once.
    """
    ranks = places.of(query, relevant)
    return ranks - np.searchsorted(places.of(query, junk), ranks) if len(junk) else ranks


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
