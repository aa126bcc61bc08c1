"""How benchmarks are measured: what their grades mean, which average precision, which figures; one value a protocol."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.errors import InputError
from tfretrieval.evaluation import metrics
from tfretrieval.evaluation.relevance import Relevance

ALL = "all"

# By name, the average precisions of a protocol: (ranks, R) -> a number.
AVERAGE_PRECISIONS: dict[str, Callable[[np.ndarray, int], float]] = {
    "trapezoidal": metrics.trapezoidal_ap,
    "rectangular": metrics.rectangular_ap,
}
# By name, the precisions at a cut-off: (ranks, R, k) -> a number.
PRECISIONS: dict[str, Callable[[np.ndarray, int, int], float]] = {
    "revisited": metrics.revisited_precision_at,
    "plain": metrics.precision_at,
}
# By their key in metrics.json, further figures of a query: (ranks, R) -> a number.
FURTHER: dict[str, Callable[[np.ndarray, int], float]] = {
    "map@r": metrics.ap_at_r,
    "r_precision": metrics.r_precision,
    "ns_score": metrics.ns_score,
    "mean_rank": metrics.mean_rank,
}


@dataclasses.dataclass(frozen=True)
class Condition:
    """One way to read the judgements of a benchmark's queries.

    Attributes:
        name: its name in results.
        relevant: grades that are right, fields of `QueryJudgement`.
        junk: grades that do not count; a photo in none of the grades is wrong.
        group: the group of queries that are measured; empty for all of them.
    """

    name: str
    relevant: tuple[str, ...] = ("easy", "hard")
    junk: tuple[str, ...] = ("junk",)
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a benchmark is measured.

    Attributes:
        name: its key in `PROTOCOLS`.
        title: the benchmarks it is of, for people.
        ap: the average precision, a key of `AVERAGE_PRECISIONS`.
        ap_at: k of AP@k with min(R, k), where the literature measures the first k photos alone; then `ap` is
            "rectangular".
        conditions: ways to read judgements; benchmarks whose relevance follows from labels have one.
        by_group: whether each group of queries is a further condition, named after it.
        main: the condition that a benchmark's one figure is of; the first where there is none of this name.
        precision: a key of `PRECISIONS`.
        precision_at: cut-offs of mP@k.
        recall_at: cut-offs of R@k.
        further: keys of `FURTHER`.
        cropped_queries: whether queries are cut to their boxes.
        own_photo: what the query's own photo is: "absent" from the database, "junk", "relevant", or "as judged".
        sets: how faulty lists are read; see `Relevance.by_judgement`.
        judged: whether the benchmark itself says what is right for which query.
    """

    name: str
    title: str
    ap: str = "trapezoidal"
    ap_at: int | None = None
    conditions: tuple[Condition, ...] = (Condition(ALL),)
    by_group: bool = False
    main: str = ALL
    precision: str = "plain"
    precision_at: tuple[int, ...] = (1, 5, 10)
    recall_at: tuple[int, ...] = (1, 5, 10)
    further: tuple[str, ...] = ()
    cropped_queries: bool = False
    own_photo: str = "absent"
    sets: bool = False
    judged: bool = True

    def average_precision(self, ranks: np.ndarray, relevant: int) -> float:
        """Returns the protocol's AP of one query; see `tfretrieval.evaluation.metrics` for the arguments."""
        if self.ap_at:
            return metrics.ap_at(ranks, relevant, self.ap_at)
        return AVERAGE_PRECISIONS[self.ap](ranks, relevant)

    @property
    def ap_name(self) -> str:
        """The AP's name in results: "trapezoidal", "rectangular", or "rectangular@100 over min(R, 100)"."""
        return f"{self.ap}@{self.ap_at} over min(R, {self.ap_at})" if self.ap_at else self.ap

    def conditions_of(self, groups: Iterable[str] = ()) -> tuple[Condition, ...]:
        """Returns the conditions of a benchmark with these groups of queries, in the order that groups come in."""
        named = dict.fromkeys(group for group in groups if group) if self.by_group else ()
        return (*self.conditions, *(Condition(group, group=group) for group in named))

    def main_of(self, names: Sequence[str]) -> str:
        """Returns which of a benchmark's conditions its one figure is of."""
        return self.main if self.main in names else names[0]

    def relevances(self, judgements: Sequence[QueryJudgement], database: int) -> dict[str, Relevance]:
        """Returns which photos are right under each condition, by its name.

        Args:
            judgements: of Q queries.
            database: number of database photos.

        Raises:
            InputError: no query has a relevant photo under any condition, so that nothing can be measured.
        """
        conditions = self.conditions_of(judgement.group for judgement in judgements)
        found = {one.name: self._relevance(judgements, one, database) for one in conditions}
        if not any(relevance.counts().any() for relevance in found.values()):
            raise InputError(
                f"none of the {len(judgements)} queries has a relevant photo under the protocol {self.name!r}, so that "
                "nothing can be measured; judgements with relevant photos are wanted."
            )
        return found

    def _relevance(self, judgements: Sequence[QueryJudgement], condition: Condition, database: int) -> Relevance:
        def rows(judgement: QueryJudgement, grades: tuple[str, ...]) -> np.ndarray:
            left_out = condition.group not in ("", judgement.group)
            listed = [] if left_out else [row for grade in grades for row in getattr(judgement, grade)]
            return np.array(listed, np.int64)

        relevant, junk = (
            [rows(judgement, grades) for judgement in judgements] for grades in (condition.relevant, condition.junk)
        )
        return Relevance.by_judgement(relevant, junk, database, self.sets)


_REVISITED = (
    Condition("easy", relevant=("easy",), junk=("junk", "hard")),
    Condition("medium", relevant=("easy", "hard"), junk=("junk",)),
    Condition("hard", relevant=("hard",), junk=("junk", "easy")),
)
_BY_CLASS = {"ap": "rectangular", "further": ("map@r", "r_precision"), "judged": False}

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "revisited",
            "revisited Oxford and Paris (Radenovic et al., CVPR 2018)",
            conditions=_REVISITED,
            main="medium",
            precision="revisited",
            cropped_queries=True,
        ),
        Protocol(
            "oxford",
            "Oxford5k and Paris6k (Philbin et al., CVPR 2007 and 2008)",
            cropped_queries=True,
            own_photo="relevant",
            sets=True,
        ),
        Protocol("holidays", "INRIA Holidays (Jegou et al., ECCV 2008)", own_photo="junk"),
        Protocol("instre", "INSTRE (Wang, Jiang, TOMM 2015; Iscen et al., CVPR 2017)", cropped_queries=True),
        Protocol(
            "copydays",
            "Copydays (Douze et al., CIVR 2009)",
            conditions=(),
            by_group=True,
            main="strong",
        ),
        Protocol(
            "ukbench",
            "UKBench (Nister, Stewenius, CVPR 2006)",
            ap="rectangular",
            further=("ns_score",),
            own_photo="relevant",
        ),
        Protocol(
            "landmarks_retrieval",
            "Google Landmarks, retrieval (Weyand et al., CVPR 2020)",
            ap="rectangular",
            ap_at=100,
            by_group=True,
            recall_at=(1, 5, 10, 100),
        ),
        Protocol(
            "landmarks_recognition",
            "Google Landmarks, recognition (Weyand et al., CVPR 2020)",
            ap="rectangular",
            by_group=True,
        ),
        Protocol("classes_1248", "CUB-200-2011 and Cars196", recall_at=(1, 2, 4, 8), own_photo="junk", **_BY_CLASS),
        Protocol(
            "classes_1_10_100_1000",
            "Stanford Online Products",
            recall_at=(1, 10, 100, 1000),
            own_photo="junk",
            **_BY_CLASS,
        ),
        Protocol("in_shop", "In-Shop Clothes Retrieval", recall_at=(1, 10, 20, 30, 40, 50), **_BY_CLASS),
        Protocol("instances", "photos by instance", own_photo="junk", **_BY_CLASS),
        Protocol("content", "photos by the objects they show", own_photo="junk", **_BY_CLASS),
    )
}


def protocol_of(name: str, where: str) -> Protocol:
    """Returns a protocol by name.

    Args:
        name: its name.
        where: what names it, for the error's sentence.

    Raises:
        InputError: there is none of this name.
    """
    if name not in PROTOCOLS:
        raise InputError(f"{where} names the protocol {name!r}; one of {', '.join(PROTOCOLS)} is wanted.")
    return PROTOCOLS[name]
