"""`metrics.json`: what made the numbers, then the numbers, then every query's own."""

import math
from collections.abc import Mapping

from tfretrieval import provenance
from tfretrieval.evaluation.benchmark import Benchmark, MatchedDescriptors
from tfretrieval.evaluation.evaluate import Evaluation

METRICS = "metrics.json"
REPORT = "index.html"


def result_header(
    flags: Mapping[str, object], benchmark: Benchmark, queries: MatchedDescriptors, database: MatchedDescriptors
) -> dict:
    """Returns the head of an evaluation's result file: flags, versions, seed, data hashes, protocol.

    Args:
        flags: the script's flags.
        benchmark: what was evaluated on.
        queries: the queries' descriptors.
        database: the database's descriptors.
    """
    sides = {"queries": queries, "database": database}
    data = {"benchmark": benchmark.sha256}
    data |= {f"{side}_model": matched.meta.get("model_sha256") for side, matched in sides.items()}
    data |= {f"{side}_vectors": matched.sha256 for side, matched in sides.items()}
    protocol = {
        "benchmark": benchmark.name,
        "ap": "rectangular",
        "recall_at_k": "share of the queries with a relevant photo among the first k",
        "relevance": benchmark.relevance_kind,
        "junk": "left out of the ranking",
        "query_itself": "left out of the ranking (same photo id)",
        "queries_without_relevant": "left out of every mean",
        "ties": "database order",
        "metric": "dot product of L2-normalised descriptors, exact search",
        "dimensions": int(queries.vectors.shape[1]),
        "image_size": {side: matched.meta.get("image_size") for side, matched in sides.items()},
    }
    return provenance.header(flags, None, data, protocol)


def result(evaluation: Evaluation, benchmark: Benchmark, header: Mapping[str, object], notes: list[str]) -> dict:
    """Returns the whole result file.

    Args:
        evaluation: the numbers.
        benchmark: names the queries and their instances.
        header: what `result_header` made.
        notes: sentences that a reader of the numbers should know.

    Returns:
        `header`, `notes`, `map`, `recall_at_1`, `recall_at_5`, `recall_at_10`, `queries`, `database`,
        `queries_without_relevant` and `per_query`, a list of {id, instance, ap, first_relevant_rank}; `ap` is null
        where the database holds no relevant photo.
    """
    per_query = [
        {
            "id": photo,
            "instance": benchmark.instances[label],
            "ap": None if math.isnan(ap) else ap,
            "first_relevant_rank": rank or None,
        }
        for photo, label, ap, rank in zip(
            benchmark.queries.ids,
            benchmark.queries.labels.tolist(),
            evaluation.ap.tolist(),
            evaluation.first_relevant_rank.tolist(),
            strict=True,
        )
    ]
    return {
        **header,
        "notes": list(notes),
        "map": evaluation.map,
        **{f"recall_at_{k}": value for k, value in evaluation.recall_at.items()},
        "queries": evaluation.queries,
        "database": evaluation.database,
        "queries_without_relevant": evaluation.queries_without_relevant,
        "per_query": per_query,
    }


def summary_lines(evaluation: Evaluation) -> list[str]:
    """Returns the numbers as lines for a terminal."""
    numbers = [f"mAP {evaluation.map:.1%}", *(f"R@{k} {value:.1%}" for k, value in evaluation.recall_at.items())]
    lines = ["  ".join(numbers), f"{evaluation.queries:,} queries, {evaluation.database:,} database photos"]
    if evaluation.queries_without_relevant:
        lines.append(f"{evaluation.queries_without_relevant:,} queries without a relevant photo are left out")
    return lines
