"""Counters and histograms by the real server's names, as a page that Prometheus reads.

Names, labels and bucket limits are those of TensorFlow Serving 2.x; times are in microseconds.
"""

import bisect
import collections
import dataclasses
import itertools
import math
import threading
import time
from collections.abc import Sequence

DEFAULT_PATH = "/monitoring/prometheus/metrics"


def exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """Returns `count` bucket limits: scale, scale * growth, ..., and infinity behind them."""
    return (*itertools.accumulate(itertools.repeat(growth, count - 1), lambda x, y: x * y, initial=scale), math.inf)


LATENCY_BUCKETS = exponential(10, 1.8, 33)
QUEUE_BUCKETS = exponential(100, 1.2, 52)
SIZE_BUCKETS = exponential(1, 2, 15)


@dataclasses.dataclass
class Counter:
    """Counts events by label values; safe between threads."""

    name: str
    labels: Sequence[str] = ()

    def __post_init__(self):
        self._values: collections.Counter[tuple[str, ...]] = collections.Counter()
        self._lock = threading.Lock()

    def add(self, *labels: str, amount: int = 1) -> None:
        """Adds to the count of these label values."""
        with self._lock:
            self._values[labels] += amount

    def lines(self) -> list[str]:
        """Returns the lines of a Prometheus page."""
        with self._lock:
            values = sorted(self._values.items())
        return [f"# TYPE {self.name} counter"] + [
            f"{self.name}{{{_labels(self.labels, labels)}}} {value}" for labels, value in values
        ]


@dataclasses.dataclass
class Histogram:
    """Distributions of values by label values; safe between threads."""

    name: str
    labels: Sequence[str] = ()
    limits: Sequence[float] = LATENCY_BUCKETS

    def __post_init__(self):
        self._values: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        self._lock = threading.Lock()

    def add(self, *labels: str, value: float) -> None:
        """Adds one value; it belongs to the first bucket whose limit is above it."""
        place = bisect.bisect_right(self.limits, value)
        with self._lock:
            buckets, total = self._values.setdefault(labels, ([0] * len(self.limits), [0.0]))
            buckets[min(place, len(buckets) - 1)] += 1
            total[0] += value

    def lines(self) -> list[str]:
        """Returns the lines of a Prometheus page."""
        with self._lock:
            values = sorted((labels, list(buckets), total[0]) for labels, (buckets, total) in self._values.items())
        lines = [f"# TYPE {self.name} histogram"]
        for labels, buckets, total in values:
            told = _labels(self.labels, labels)
            for limit, count in zip(self.limits, itertools.accumulate(buckets), strict=True):
                le = "+Inf" if limit == math.inf else f"{limit:g}"
                lines.append(f'{self.name}_bucket{{{told}{"," if told else ""}le="{le}"}} {count}')
            lines += [f"{self.name}_sum{{{told}}} {total:g}", f"{self.name}_count{{{told}}} {sum(buckets)}"]
        return lines


class Metrics:
    """What one server counts and measures."""

    def __init__(self):
        serving, loading = ":tensorflow:serving:", ":tensorflow:cc:saved_model:"
        batching = f"{serving}batching_session:"
        by_pool = ("thread_pool_name",)
        self.request_count = Counter(f"{serving}request_count", ("model_name", "status"))
        self.request_latency = Histogram(f"{serving}request_latency", ("model_name", "API", "entrypoint"))
        self.runtime_latency = Histogram(f"{serving}runtime_latency", ("model_name", "API", "runtime"))
        self.warmup_latency = Histogram(f"{serving}model_warmup_latency", ("model_path", "status"))
        self.load_attempt_count = Counter(f"{loading}load_attempt_count", ("model_path", "status"))
        self.load_latency = Counter(f"{loading}load_latency", ("model_path",))
        self.queuing_latency = Histogram(f"{batching}queuing_latency", by_pool, QUEUE_BUCKETS)
        self.input_batch_size = Histogram(f"{batching}input_batch_size", by_pool, SIZE_BUCKETS)
        self.processed_batch_size = Histogram(f"{batching}processed_batch_size", by_pool, SIZE_BUCKETS)
        self.padding_size = Histogram(f"{batching}padding_size", ("execution_batch_size", *by_pool), SIZE_BUCKETS)
        self.wrapped_run_count = Counter(f"{batching}wrapped_run_count")

    def page(self) -> str:
        """Returns everything as a Prometheus page."""
        return "\n".join(itertools.chain.from_iterable(metric.lines() for metric in vars(self).values())) + "\n"


def microseconds_since(start: float) -> float:
    """Returns the microseconds since a `time.perf_counter()`."""
    return 1e6 * (time.perf_counter() - start)


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
