"""Runs derived from trained runs: averaged, with several scales, or with a fitted whitening."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tfretrieval import files, provenance
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.models.descriptor import add_scales, add_whitening
from tfretrieval.training.run_directory import DESCRIPTION, RunDirectory
from tfretrieval.whitening import Whitening


def write_whitened_run(
    run: RunDirectory,
    which: str,
    samples: Descriptors,
    whitening: Whitening,
    output: str | Path,
    flags: Mapping[str, object],
) -> RunDirectory:
    """Appends a whitening to a run's network and writes the result as a run of its own.

    Args:
        run: the run.
        which: its network: "best", "last" or "untrained".
        samples: the descriptors that the whitening was fitted to.
        whitening: the whitening.
        output: the directory of the new run, which holds `best.keras`, `whitening.npz` and `run.json`, where
            "whitening" has the facts of the fit.
        flags: what to note in `run.json`.

    Raises:
        InputError: the descriptors were made by another network, or the output holds something else.
    """
    model = run.load_model(which)
    own, theirs = files.sha256(run.model(which)), samples.meta.get("model_sha256")
    if theirs is not None and own != theirs:
        raise InputError(
            f"--descriptors were made by the network {theirs[:12]}, and {run.model(which)} is {own[:12]}; extract them "
            f"with --model={run.path} --which={which}."
        )
    extra = {"network": own, "whitening_samples": samples.meta.get("data", {}).get("records")}
    with _derived(run, output, flags, extra) as (partial, description):
        description["whitening"] = whitening.facts
        whitening.save(partial / "whitening.npz")
        add_whitening(model, whitening).save(partial / "best.keras")
    return RunDirectory.load(output)


def write_multi_scale_run(
    run: RunDirectory,
    which: str,
    scales: tuple[float, ...],
    power: float | None,
    image_size: int,
    output: str | Path,
    flags: Mapping[str, object],
) -> RunDirectory:
    """Makes a run's network describe several scales, and writes the result as a run of its own.

    Args:
        run: the run.
        which: its network: "best", "last" or "untrained".
        scales: see `add_scales`.
        power: see `add_scales`.
        image_size: longer side in pixels at scale 1; 0 keeps the run's.
        output: the directory of the new run, which holds `best.keras` and `run.json`.
        flags: what to note in `run.json`.

    Raises:
        InputError: the scales do not fit, or the output holds something else.
    """
    model = run.load_model(which)
    with _derived(run, output, flags, {"network": files.sha256(run.model(which))}) as (partial, description):
        add_scales(model, scales, power).save(partial / "best.keras")
        if image_size:
            description["training"]["image_size"] = description["protocol"]["image_size"] = image_size
    return RunDirectory.load(output)


def write_averaged_run(
    runs: list[RunDirectory], which: str, output: str | Path, flags: Mapping[str, object]
) -> RunDirectory:
    """Averages the weights of runs that began from the same weights, and writes the result as a run of its own.

    A "model soup": fine-tuned networks with one beginning lie in one basin, and their mean is steadier than any of
    them at the cost of one. Source: Wortsman et al., "Model soups", ICML 2022 (the uniform soup).

    Args:
        runs: two or more runs of one architecture, of different seeds, say.
        which: their networks: "best", "last" or "untrained".
        output: the directory of the new run, which holds `best.keras` and `run.json`.
        flags: what to note in `run.json`.

    Raises:
        InputError: fewer than two runs, other architectures, other image sizes or records, or the output holds
            something else.
    """
    if len(runs) < 2:
        raise InputError(f"--checkpoints names {len(runs)} run; two or more are wanted.")
    first, *others = [run.read_description() for run in runs]
    for run, description in zip(runs[1:], others, strict=True):
        for kind, name in (("training", "image_size"), ("data", "records"), ("data", "weights")):
            before, now = first[kind].get(name), description[kind].get(name)
            if before != now:
                raise InputError(
                    f"{run.path} has the {name} {now} and {runs[0].path} has {before}; equal ones are wanted."
                )
    models = [run.load_model(which) for run in runs]
    shapes = [[tuple(weight.shape) for weight in model.weights] for model in models]
    if any(other != shapes[0] for other in shapes[1:]):
        raise InputError("--checkpoints name networks of different architectures; equal ones are wanted.")
    for weights in zip(*(model.weights for model in models), strict=True):
        if "float" in weights[0].dtype:
            weights[0].assign(np.mean([weight.numpy() for weight in weights], axis=0))
    parts = {f"network_{number}": files.sha256(run.model(which)) for number, run in enumerate(runs)}
    with _derived(runs[0], output, flags, parts) as (partial, _):
        models[0].save(partial / "best.keras")
    return RunDirectory.load(output)


@contextlib.contextmanager
def _derived(
    run: RunDirectory, output: str | Path, flags: Mapping[str, object], data: Mapping[str, str | None]
) -> Iterator[tuple[Path, dict]]:
    """Yields the directory of a run derived from another and its description, which may be changed."""
    description = run.read_description()
    head = provenance.header(flags, description["seed"], {**description["data"], **data}, description["protocol"])
    description = {**description, **head, "derived_from": {"run": str(run.path), "flags": description["flags"]}}
    with files.atomic_directory(output, marker=DESCRIPTION) as partial:
        yield partial, description
        files.write_text(partial / "flags.txt", provenance.flag_file(flags))
        files.write_json(partial / DESCRIPTION, description)
