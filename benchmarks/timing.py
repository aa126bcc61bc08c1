"""Timing of two sides in turn, so that a machine whose speed drifts slows both."""

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import bars
from tfretrieval import provenance


def in_turn(sides: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Runs each side once without counting, then in turn; returns seconds by side."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for counted in [False] + [True] * rounds:
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if counted:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def report(
    name: str,
    seconds: dict[str, list[float]],
    items: int,
    settings: dict,
    output: str | Path = "runs/benchmarks",
    unit: str = "photos",
    title: str = "",
    more: Mapping[str, object] | None = None,
) -> dict:
    """Prints items per second of each side and their ratios to the last one; writes them as JSON and as a chart.

    Args:
        name: the benchmark's name, and its file's.
        seconds: what `in_turn` returned; the last side is what the others are compared with.
        items: items that one run handles.
        settings: what to note.
        output: folder of the JSON file and of the chart.
        unit: what the items are, in the plural.
        title: the chart's; the name where not given.
        more: further entries of the JSON file.
    """
    *_, reference = seconds
    rates = {side: items / statistics.median(times) for side, times in seconds.items()}
    ratios = {side: ratio(seconds, side, reference) for side in seconds}
    for side, rate in rates.items():
        print(f"{side:>36}: {rate:8.{_decimals(rate)}f} {unit}/s, {ratios[side]:.3f} of {reference!r}")
    labels = {side: f"{rate:,.{_decimals(rate)}f}, {ratios[side]:.2f} x" for side, rate in rates.items()}
    note = f"{unit} a second, and how many times as fast as {reference}"
    bars.save(Path(output) / f"{name}.svg", title or name.replace("_", " "), note, rates, labels)
    return write(name, seconds, {f"{unit}_per_second": rates, "ratio": ratios, **(more or {})}, settings, output)


def ratio(seconds: Mapping[str, Sequence[float]], side: str, base: str) -> float:
    """Returns how many times as fast as another a side is: the median of the rounds' own ratios."""
    return statistics.median(theirs / own for own, theirs in zip(seconds[side], seconds[base], strict=True))


def held_against(seconds: Mapping[str, Sequence[float]], wanted: Mapping[tuple[str, str], float]) -> list[dict]:
    """Prints ratios that are wanted beside those that were measured, and returns them; of sides that ran.

    Args:
        seconds: what `in_turn` returned.
        wanted: least ratio by (side, what it is compared with).
    """
    found = [
        {"side": side, "against": base, "ratio": ratio(seconds, side, base), "wanted": least}
        for (side, base), least in wanted.items()
        if side in seconds and base in seconds
    ]
    for each in found:
        print(
            f"{each['side']} against {each['against']}: {each['ratio']:.2f}, "
            f"{'as' if each['ratio'] >= each['wanted'] else 'NOT as'} wanted ({each['wanted']:g})"
        )
    return found


def _decimals(rate: float) -> int:
    return 1 if rate >= 10 else 3


def write(
    name: str, seconds: dict[str, list[float]], figures: dict, settings: dict, output: str | Path = "runs/benchmarks"
) -> dict:
    """Writes a benchmark's figures and the seconds behind them as `output/name.json`, and returns them."""
    machine = {"load_average": os.getloadavg()} if hasattr(os, "getloadavg") else {}
    result = {**provenance.header(settings, settings.get("seed"), {}), **machine, **figures, "seconds": seconds}
    Path(output).mkdir(parents=True, exist_ok=True)
    (Path(output) / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result
