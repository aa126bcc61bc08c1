"""`metrics.json`: what made the numbers, then the numbers, then every query's own."""

import math
from collections.abc import Mapping

import numpy as np

from tfretrieval import provenance
from tfretrieval.data.judgements import UNLABELLED
from tfretrieval.evaluation.benchmark import Benchmark, MatchedDescriptors
from tfretrieval.evaluation.evaluate import Evaluation
from tfretrieval.evaluation.guard import EXACT_SEARCH, Ranked, guarded
from tfretrieval.evaluation.protocols import protocol_of

METRICS = "metrics.json"
REPORT = "index.html"
_OWN_PHOTO = {
    "absent": "not in the database",
    "junk": "left out of the ranking (same photo id)",
    "relevant": "counted where the benchmark lists it",
}


def result_header(
    flags: Mapping[str, object],
    benchmark: Benchmark,
    queries: MatchedDescriptors,
    database: MatchedDescriptors,
    ranked: Ranked = EXACT_SEARCH,
) -> dict:
    """Returns the head of an evaluation's result file: flags, versions, seed, data hashes, protocol.

    Args:
        flags: the script's flags.
        benchmark: what was evaluated on.
        queries: the queries' descriptors.
        database: the database's descriptors.
        ranked: how rankings were made.
    """
    sides = {"queries": queries, "database": database}
    data = {"benchmark": benchmark.sha256}
    data |= {f"{side}_model": matched.meta.get("model_sha256") for side, matched in sides.items()}
    data |= {f"{side}_vectors": matched.sha256 for side, matched in sides.items()}
    if benchmark.ground_truth_sha256:
        data["ground_truth"] = benchmark.ground_truth_sha256
    checked = guarded(benchmark, protocol_of(benchmark.protocol, "the benchmark"), queries.meta, database.meta, ranked)
    protocol = {
        "benchmark": benchmark.name,
        "name": checked.pop("name"),
        "ap": checked.pop("ap"),
        "recall_at_k": "share of the queries with a relevant photo among the first k",
        "relevance": benchmark.relevance_kind,
        "junk": "left out of the ranking",
        "query_itself": _OWN_PHOTO[protocol_of(benchmark.protocol, "the benchmark").own_photo],
        "queries_without_relevant": "left out of every mean",
        "ties": "database order",
        "metric": "dot product of L2-normalised descriptors, exact search",
        "dimensions": int(queries.vectors.shape[1]),
        **checked,
    }
    return provenance.header(flags, None, data, protocol)


def result(
    evaluation: Evaluation,
    benchmark: Benchmark,
    header: Mapping[str, object],
    notes: list[str],
    plain: Evaluation | None = None,
) -> dict:
    """Returns the whole result file.

    Args:
        evaluation: the numbers.
        benchmark: names the queries and their instances.
        header: what `result_header` made.
        notes: sentences that a reader of the numbers should know.
        plain: the numbers before re-ranking, where `evaluation` has those after it.

    Returns:
        `header`, `notes`, `map`, `recall_at_1`, ... of the main condition, `queries`, `database`,
        `queries_without_relevant`, `condition` (the main one's name), `protocols` and `per_query`. `protocols` has for
        each condition its figures by name ("map", "mp@1", ..., "recall@1", ...) and `queries`, how many the means are
        of; null where nothing is defined. `per_query` is a list of {id, instance, ap, first_relevant_rank} of the main
        condition; `ap` is null where the database holds no relevant photo. Where there are several conditions, each
        entry has `aps`, the AP under each. With `plain`, `before_reranking` has its `map`, `protocols` and
        `per_query_ap` by condition.
    """
    told = {
        **header,
        "notes": list(notes),
        "map": _number(evaluation.map),
        **{f"recall_at_{k}": _number(value) for k, value in evaluation.recall_at.items()},
        "queries": evaluation.queries,
        "database": evaluation.database,
        "queries_without_relevant": evaluation.queries_without_relevant,
        "condition": evaluation.main,
        "protocols": _protocols(evaluation),
    }
    if plain is not None:
        aps = {name: _numbers(condition.ap) for name, condition in plain.conditions.items()}
        told["before_reranking"] = {
            "map": _number(plain.map),
            "protocols": _protocols(plain),
            "per_query_ap": aps,
        }
    return {**told, "per_query": _per_query(evaluation, benchmark)}


def _protocols(evaluation: Evaluation) -> dict[str, dict]:
    return {
        name: {**{key: _number(value) for key, value in condition.figures.items()}, "queries": condition.queries}
        for name, condition in evaluation.conditions.items()
    }


def _per_query(evaluation: Evaluation, benchmark: Benchmark) -> list[dict]:
    columns = {
        "id": list(benchmark.queries.ids),
        "instance": [benchmark.instances[label] for label in benchmark.queries.labels.tolist()],
        "ap": _numbers(evaluation.ap),
        "first_relevant_rank": [rank or None for rank in evaluation.first_relevant_rank.tolist()],
    }
    if set(columns["instance"]) == {UNLABELLED}:
        del columns["instance"]
    if len(evaluation.conditions) > 1:
        aps = {name: _numbers(condition.ap) for name, condition in evaluation.conditions.items()}
        columns["aps"] = [dict(zip(aps, values, strict=True)) for values in zip(*aps.values(), strict=True)]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _numbers(values: np.ndarray) -> list[float | None]:
    return [_number(value) for value in values.tolist()]


def summary_lines(evaluation: Evaluation) -> list[str]:
    """Returns the numbers as lines for a terminal."""
    lines = []
    if len(evaluation.conditions) > 1:
        for name, condition in evaluation.conditions.items():
            shown = {key: value for key, value in condition.figures.items() if key == "map" or key.startswith("mp@")}
            numbers = "  ".join(f"{_TITLES.get(key, key)} {value:.1%}" for key, value in shown.items())
            lines.append(f"{name}: {numbers}  ({condition.queries:,} queries)")
    else:
        numbers = [f"mAP {evaluation.map:.1%}", *(f"R@{k} {value:.1%}" for k, value in evaluation.recall_at.items())]
        lines.append("  ".join(numbers))
    lines.append(f"{evaluation.queries:,} queries, {evaluation.database:,} database photos")
    if evaluation.queries_without_relevant:
        lines.append(f"{evaluation.queries_without_relevant:,} queries without a relevant photo are left out")
    return lines


_TITLES = {"map": "mAP", "mp@1": "mP@1", "mp@5": "mP@5", "mp@10": "mP@10"}
