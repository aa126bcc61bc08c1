"""What people see in the terminal: progress, stages, and nothing of TensorFlow's start-up noise."""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_muted = False
_OURS = "TFRETRIEVAL_QUIET"  # tells a log level set here from one that the user set


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Points the process's standard error at nothing, below Python, where C++ start-up code writes."""
    sys.stderr.flush()
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def quiet_tensorflow() -> None:
    """Imports TensorFlow without its start-up messages; errors are raised as usual.

    TensorFlow 2.21 prints lines about oneDNN and missing CUDA drivers before its own log level applies, so the
    level alone does not silence them. `TF_CPP_MIN_LOG_LEVEL` set by the user is respected: with it, nothing is hidden.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ and _OURS not in os.environ:
        return
    # Scripts that scripts start inherit the level, and are to be as quiet.
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", _OURS: "1"}
    with _silenced_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()


def mute(muted: bool) -> None:
    """Silences, or lets speak again, everything below: of several processes that train together, one tells."""
    global _muted
    _muted = muted


def progress(items: Iterable[T] | None, description: str, total: int | None = None, unit: str = "photo") -> tqdm:
    """Returns a progress bar on standard error around `items` (or one to be updated by hand when None).

    On a terminal the bar moves; in a log file it prints a line about every 30 seconds and one at the end.
    """
    interval = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(
        items,
        desc=f"  {description}",
        total=total,
        unit=f" {unit}",
        mininterval=interval,
        maxinterval=max(interval, 10.0),
        dynamic_ncols=True,
        file=sys.stderr,
        leave=True,
        disable=_muted,
        delay=0.5,  # what is done at once needs no bar
    )


@contextlib.contextmanager
def stage(title: str, seconds: dict[str, float] | None = None, name: str = "") -> Iterator[None]:
    """Prints a stage's title, then runs it; stores its duration in `seconds[name]` where given."""
    print(f"\n{title}", flush=True)
    start = time.perf_counter()
    yield
    if seconds is not None:
        seconds[name] = round(time.perf_counter() - start, 2)


def say(text: str) -> None:
    """Prints one indented line of the story."""
    if not _muted:
        print(f"  {text}", flush=True)
