"""How tf.data pipelines of this library run in parallel: on every core, in a repeatable order, without autotuning."""

import math
import os
from pathlib import Path

import tensorflow as tf

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Returns how many cores this process may use: by its affinity, and by its container's quota of time (Linux).

    TensorFlow looks at the affinity alone, and with more threads than the quota allows all of them are stopped for the
    rest of each period.

    Args:
        cgroup: where the kernel shows control groups, of either version.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(cgroup))))


def _quota(cgroup: Path) -> float:
    """Returns the cores' worth of time that a container gets, infinity where it has no limit."""
    try:
        if (cgroup / "cpu.max").is_file():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # no limit is written as "max"
        return math.inf


CORES = usable_cores()


def set_threads() -> None:
    """Lets TensorFlow compute on `CORES` threads; to be called before it computes anything.

    Raises:
        RuntimeError: TensorFlow has begun already.
    """
    tf.config.threading.set_intra_op_parallelism_threads(CORES)
    tf.config.threading.set_inter_op_parallelism_threads(CORES)


def steady(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Makes a pipeline keep its order and its given parallelism; to be applied last.

    With autotuning, TensorFlow 2.21 often holds back the end of an iteration until its tuning thread wakes, which
    sleeps for periods that double from 10 ms to a minute: loops of 3.0 s and 6.1 s were seen to last 5.1 s and 10.2 s.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    return dataset.with_options(options)
