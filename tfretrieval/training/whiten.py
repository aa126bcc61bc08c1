"""A run whose network ends in a fitted whitening."""

from collections.abc import Mapping
from pathlib import Path

from tfretrieval import files, provenance
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.models.descriptor import add_whitening
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
        output: the directory of the new run, which holds `best.keras`, `whitening.npz` and `run.json`.
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
    model = add_whitening(model, whitening)
    description = run.read_description()
    data = {**description["data"], "network": own, "whitening_samples": samples.meta.get("data", {}).get("records")}
    head = provenance.header(flags, description["seed"], data, description["protocol"])
    with files.atomic_directory(output, marker=DESCRIPTION) as partial:
        whitening.save(partial / "whitening.npz")
        model.save(partial / "best.keras")
        files.write_text(partial / "flags.txt", provenance.flag_file(flags))
        files.write_json(partial / DESCRIPTION, {**description, **head, "trained_with": description["flags"]})
    return RunDirectory.load(output)
