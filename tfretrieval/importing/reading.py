"""Reading PyTorch's files, of the zip format and of the one before it, without running what they hold."""

import re
import warnings
from pathlib import Path

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.importing import stored_arrays

# How torch.load names what it refuses; PyTorch has no exception that carries the name.
_GLOBAL = re.compile(r"GLOBAL ([\w.]*\w)")


def read_checkpoint(path: str | Path) -> dict:
    """Reads a PyTorch file.

    A PyTorch file is a pickle, which can name any function of any installed module to be called. Only what makes
    tensors is called here (`torch.load(weights_only=True)`); NumPy arrays are read as data (see `stored_arrays`).

    Args:
        path: the file.

    Returns:
        What it holds; tensors as `torch.Tensor` on the CPU, NumPy arrays as such.

    Raises:
        InputError: PyTorch is not installed, or the file is missing, broken, not PyTorch's, holds something other than
            a dictionary, or holds objects of other kinds, of which the first is named.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"--checkpoint={path} is not a file; a PyTorch checkpoint is wanted.")
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "reading PyTorch's files needs PyTorch, which is not installed; "
            "python -m pip install -r requirements-peers.txt installs it."
        ) from error
    try:
        with torch.serialization.safe_globals(stored_arrays.SAFE_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns of and cannot read ends in the one sentence below
            content = torch.load(path, map_location="cpu", weights_only=True)
        content = stored_arrays.to_arrays(content)
    except Exception as error:  # torch raises nearly every built-in exception over a broken file
        raise InputError(_refusal(path, error)) from error
    if not isinstance(content, dict):
        raise InputError(f"--checkpoint={path} holds a {type(content).__name__}; a dictionary of tensors is wanted.")
    return content


def _refusal(path: Path, error: Exception) -> str:
    """Returns the sentence for a file that was not read."""
    named = _GLOBAL.search(str(error))
    if named is None:
        told = str(error).split("WeightsUnpickler error:")[-1].strip().splitlines()
        reason = told[0].split(". ")[0].strip(" .")[:200] if told else type(error).__name__
        return f"--checkpoint={path} cannot be read as a PyTorch file ({reason}); a whole .pth or .pt file is wanted."
    name = named[1]
    done = (
        "its PCA whitening is objects of scikit-learn, not numbers; docs/pytorch.md shows how to take the numbers out"
        if name.startswith("sklearn.")
        else "load it where you trust it, and save its dictionary of tensors alone (docs/pytorch.md shows how)"
    )
    return f"--checkpoint={path} wants to call {name}, and pickled code is never run here; {done}."


def to_numpy(value) -> np.ndarray | None:
    """Returns a tensor or array as a NumPy array, half precisions as float32, and None for anything else."""
    if isinstance(value, np.ndarray):
        return value
    if type(value).__module__.split(".")[0] != "torch" or not hasattr(value, "detach"):
        return None
    value = value.detach()
    return (value.float() if value.is_floating_point() and value.element_size() < 4 else value).cpu().numpy()
