"""What made a result: flags, versions, seed and data hashes, the header of every result file."""

import importlib.metadata
import platform
from collections.abc import Mapping

import tfretrieval

PACKAGES = ("tensorflow", "keras", "numpy", "opencv-python-headless", "pillow", "tensorflow-serving-api")


def versions() -> dict[str, str]:
    """Returns the versions of this toolkit, Python and the packages that numbers depend on."""
    found = {"tfretrieval": tfretrieval.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def header(
    flags: Mapping[str, object], seed: int | None, data: Mapping[str, str], protocol: Mapping[str, object] | None = None
) -> dict:
    """Returns the head of a result file.

    Args:
        flags: flag names and values that made the result.
        seed: the random seed, or None where nothing is random.
        data: SHA-256 of every input by its role ("records", "model", ...).
        protocol: what a reader needs to compare the numbers: image size, AP definition, relevance, ...

    Returns:
        A dictionary with the keys `flags`, `versions`, `seed`, `data`, `protocol`, in that order.
    """
    return {
        "flags": dict(flags),
        "versions": versions(),
        "seed": seed,
        "data": dict(data),
        "protocol": dict(protocol or {}),
    }


def flag_file(flags: Mapping[str, object]) -> str:
    """Returns flags as the text of a file that absl's `--flagfile` reads; flags without a value are left out."""
    return "".join(f"--{name}={_flag_text(value)}\n" for name, value in flags.items() if value is not None)


def _flag_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
