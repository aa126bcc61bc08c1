"""Checkpoints: all state of a training, written so that an interruption leaves the one before intact."""

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfretrieval import files
from tfretrieval.errors import InputError

_MARKER = "progress.json"


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        epoch: epochs done.
        step: steps done within the epoch that follows them.
        plan: int [steps, B], the rows of that epoch's batches; None when it has not begun.
        loss_sum: sum of that epoch's losses so far.
        best_map: highest validation mAP so far; None without one.
        history: one dictionary per finished epoch.
    """

    epoch: int = 0
    step: int = 0
    plan: np.ndarray | None = None
    loss_sum: float = 0.0
    best_map: float | None = None
    history: tuple[dict, ...] = ()


class Checkpoints:
    """The checkpoints of a run; the two newest are kept.

    Args:
        directory: where they are.
        variables: all variables that training changes, in a fixed order.
    """

    def __init__(self, directory: Path, variables: Sequence):
        self._directory, self._variables = directory, list(variables)

    def save(self, progress: Progress) -> None:
        """Writes a checkpoint atomically, then removes older ones."""
        name = f"epoch-{progress.epoch:05d}-step-{progress.step:07d}"
        with files.atomic_directory(self._directory / name, marker=_MARKER) as partial:
            np.savez(partial / "variables.npz", **{f"{i:05d}": v.numpy() for i, v in enumerate(self._variables)})
            if progress.plan is not None:
                np.save(partial / "plan.npy", progress.plan)
            values = {**dataclasses.asdict(dataclasses.replace(progress, plan=None)), "history": list(progress.history)}
            files.write_text(partial / _MARKER, json.dumps(values))
        for old in self._finished()[:-2]:
            shutil.rmtree(old)

    def restore(self) -> Progress:
        """Reads the newest checkpoint into the variables.

        Returns:
            Its progress; that of a new training when there is no checkpoint.

        Raises:
            InputError: the checkpoint does not fit the variables, or cannot be read.
        """
        finished = self._finished()
        if not finished:
            return Progress()
        newest = finished[-1]
        try:
            with np.load(newest / "variables.npz", allow_pickle=False) as stored:
                values = [stored[name] for name in sorted(stored.files)]
            plan = np.load(newest / "plan.npy", allow_pickle=False) if (newest / "plan.npy").exists() else None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{newest} cannot be read ({error}); delete it to resume from the one before.") from error
        shapes = [tuple(variable.shape) for variable in self._variables]
        if [value.shape for value in values] != shapes:
            raise InputError(
                f"{newest} holds other variables than this network and optimiser; it belongs to another run."
            )
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)
        told = files.read_json(newest / _MARKER, "a checkpoint's progress")
        return Progress(**{**told, "plan": plan, "history": tuple(told["history"])})

    def _finished(self) -> list[Path]:
        return sorted(path for path in self._directory.glob("epoch-*") if (path / _MARKER).is_file())
