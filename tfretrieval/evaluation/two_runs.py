"""Two results of one benchmark, read from their `metrics.json` and compared query by query."""

import dataclasses
from pathlib import Path

import numpy as np

from tfretrieval import files
from tfretrieval.errors import InputError
from tfretrieval.evaluation.paired import compare_paired

_FILE = "metrics.json"
# What must be equal for two results to compare, and what a reader should know where it is not.
_SAME = ("benchmark", "name", "ap", "relevance")
_TOLD = ("query_crop", "image_size", "scales", "rerank", "junk_and_reranking", "metric")


@dataclasses.dataclass(frozen=True)
class MeasuredRun:
    """One result file of pipelines.evaluate.

    Attributes:
        path: the file.
        content: what it holds.
    """

    path: Path
    content: dict

    @classmethod
    def load(cls, path: str | Path) -> "MeasuredRun":
        """Reads a `metrics.json`, or the one in a directory.

        Raises:
            InputError: it is missing or is no result of pipelines.evaluate.
        """
        path = Path(path)
        path = path / _FILE if path.is_dir() else path
        content = files.read_json(path, "a result of pipelines.evaluate")
        wanted = {"per_query": list, "protocol": dict, "data": dict, "protocols": dict}
        for field, kind in wanted.items():
            if not isinstance(content.get(field), kind) or (field == "protocols" and not content[field]):
                raise InputError(
                    f"{path} has no {field!r} as pipelines.evaluate writes it; a result of its present version is "
                    "wanted."
                )
        run = cls(path, content)
        try:
            for condition in run.conditions:
                run.ap(condition)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} has an entry in 'per_query' that cannot be read ({error!r}); a result of pipelines.evaluate "
                "is wanted."
            ) from error
        return run

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions that were measured."""
        return tuple(self.content["protocols"])

    @property
    def main(self) -> str:
        """The condition that the result's one figure is of."""
        return self.content.get("condition", self.conditions[0])

    def ids(self) -> list[str]:
        """Returns the queries' ids."""
        return [query["id"] for query in self.content["per_query"]]

    def ap(self, condition: str) -> np.ndarray:
        """Returns float64 [Q]: AP under a condition; NaN where there is none."""
        values = [query["aps"][condition] if "aps" in query else query["ap"] for query in self.content["per_query"]]
        return np.array([np.nan if value is None else value for value in values], np.float64)

    def ranks(self) -> list[int | None]:
        """Returns each query's first relevant rank under the main condition."""
        return [query.get("first_relevant_rank") for query in self.content["per_query"]]


def check_comparable(first: MeasuredRun, second: MeasuredRun) -> list[str]:
    """Checks that two results are of one benchmark, ground truth and protocol.

    Returns:
        Sentences for a reader: settings in which they differ, results that are not comparable with published ones.

    Raises:
        InputError: they are not; the sentence names the first difference.
    """
    truths = [run.content["data"].get("ground_truth") for run in (first, second)]
    pairs = [("ground truth", *(str(truth)[:12] for truth in truths))] if any(truths) else []
    if not all(truths):
        pairs.append(
            ("benchmark's records", *(str(run.content["data"].get("benchmark"))[:12] for run in (first, second)))
        )
    pairs += [(f"protocol's {key}", *(run.content["protocol"].get(key) for run in (first, second))) for key in _SAME]
    pairs += [("number of database photos", *(run.content.get("database") for run in (first, second)))]
    pairs += [("conditions", *(", ".join(run.conditions) for run in (first, second)))]
    for what, one, other in pairs:
        if one != other:
            raise InputError(
                f"{first.path} and {second.path} differ in the {what} ({one} and {other}); two results of one "
                "benchmark, ground truth and protocol are wanted."
            )
    if first.ids() != second.ids():
        raise InputError(
            f"{first.path} and {second.path} list different queries; results of the same queries are wanted."
        )
    notes = []
    for key in _TOLD:
        one, other = (run.content["protocol"].get(key) for run in (first, second))
        if one != other:
            notes.append(f"The runs differ in {key}: {one} and {other}.")
    for run in (first, second):
        if not run.content["protocol"].get("valid", True):
            notes.append(f"{run.path} is not comparable with published numbers; its notes tell why.")
    return notes


def compare_runs(first: MeasuredRun, second: MeasuredRun, condition: str | None = None, seed: int = 0) -> dict:
    """Compares two results that `check_comparable` accepts.

    Args:
        first: what is compared with.
        second: what is compared.
        condition: the condition; the main one when not given.
        seed: of the interval and the test.

    Returns:
        What comparison.json holds beside its head: `condition`, `first` and `second` with path, model and figures of
        all conditions, `paired` and `per_query`, a list of {id, first, second, difference, first_rank, second_rank}
        with the largest gain first; queries without an AP are left out of it, and ranks are of the main condition.

    Raises:
        InputError: there is no such condition, or no query has an AP under it.
    """
    condition = condition or first.main
    if condition not in first.conditions:
        raise InputError(
            f"--condition={condition} was not measured in {first.path}; one of {', '.join(first.conditions)} is wanted."
        )
    one, other = first.ap(condition), second.ap(condition)
    try:
        paired = compare_paired(one, other, seed)
    except ValueError as error:
        raise InputError(f"{first.path} and {second.path} cannot be compared: {error}") from error
    rows = zip(first.ids(), one.tolist(), other.tolist(), first.ranks(), second.ranks(), strict=True)
    per_query = [
        {"id": name, "first": a, "second": b, "difference": b - a, "first_rank": rank, "second_rank": now}
        for name, a, b, rank, now in rows
        if not np.isnan(a + b)
    ]
    per_query.sort(key=lambda query: -query["difference"])
    return {
        "condition": condition,
        "first": _told(first),
        "second": _told(second),
        "paired": dataclasses.asdict(paired),
        "per_query": per_query,
    }


def comparison_lines(found: dict) -> list[str]:
    """Returns what `compare_runs` found as lines for a terminal."""
    paired = found["paired"]
    low, high = paired["interval"]
    how = "exact" if paired["exact"] else "drawn"
    return [
        f"{found['condition']}: mAP {paired['first']:.4f} -> {paired['second']:.4f} over {paired['queries']:,} queries",
        f"difference {paired['difference']:+.4f}, {paired['confidence']:.0%} interval {low:+.4f} to {high:+.4f} "
        f"(bootstrap), p = {paired['p_value']:.4g} ({how} permutation test)",
        f"{paired['better']:,} queries better, {paired['worse']:,} worse, {paired['equal']:,} equal",
    ]


def _told(run: MeasuredRun) -> dict:
    data = run.content["data"]
    models = {side: data.get(f"{side}_model") for side in ("queries", "database")}
    return {
        "path": str(run.path),
        "sha256": files.sha256(run.path),
        "model": models,
        "protocols": run.content["protocols"],
    }
