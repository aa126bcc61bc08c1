"""The figures of an evaluation that a model's card tells."""

from pathlib import Path

from tfretrieval import files
from tfretrieval.errors import InputError

# What makes figures comparable, and the figures; an evaluation's file holds every query's own besides.
_TOLD = ("map", "queries", "database", "condition", "protocols", "protocol", "notes")


def figures_of(path: str | Path, model_sha256: str) -> dict:
    """Reads what a `metrics.json` of pipelines.evaluate says of a network.

    Args:
        path: the file.
        model_sha256: hash of the network.

    Returns:
        `map`, `recall_at_1` and so on, `protocols`, `protocol`, `notes`, `benchmark` (the hash of its records) and
        `sha256`, the file's own hash.

    Raises:
        InputError: the file is no such result, or is of another network.
    """
    path = Path(path)
    found = files.read_json(path, "the metrics.json of an evaluation")
    if "map" not in found or not isinstance(found.get("data"), dict):
        raise InputError(f"--metrics={path} has no mAP and data; a metrics.json of pipelines.evaluate is wanted.")
    for side in ("queries_model", "database_model"):
        made_by = found["data"].get(side)
        if made_by and made_by != model_sha256:
            raise InputError(
                f"--metrics={path} is of the model {made_by[:12]}... and {model_sha256[:12]}... is exported; an "
                "evaluation of the same model is wanted."
            )
    told = {key: value for key, value in found.items() if key in _TOLD or key.startswith("recall_at_")}
    return {**told, "benchmark": found["data"].get("benchmark"), "sha256": files.sha256(path)}
