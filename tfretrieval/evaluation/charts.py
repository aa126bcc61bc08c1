"""Small charts as inline SVG; colours and fonts come from the page's style sheet."""

import dataclasses
import html
import math
from collections.abc import Sequence

import numpy as np

_WIDTH, _HEIGHT = 360, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 32, 42


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
        label: plain text beside it.
        ticks: (value, text) pairs, rising; the first and last bound the axis.
        logarithmic: whether equal steps are equal ratios; values are then above 0.
    """

    label: str
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Returns where a value lies between the first tick (0) and the last (1)."""
        low, high = self.ticks[0][0], self.ticks[-1][0]
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low) if high > low else 0.5


SHARE_TICKS = ((0.0, "0 %"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %"))
UNIT_TICKS = ((0.0, "0"), (0.25, ".25"), (0.5, ".5"), (0.75, ".75"), (1.0, "1"))


def count_ticks(highest: int) -> tuple[tuple[float, str], ...]:
    """Returns ticks 1, 2, 5, 10, 20, ... for a logarithmic axis that ends at `highest` >= 1."""
    steps = [1, 2, 5, 10, 20, 50, 100, 200, 500]
    ticks = [step for step in steps if step <= highest / 1.3] or [1]
    if ticks[-1] != highest:
        ticks.append(highest)
    return tuple((float(tick), str(tick)) for tick in ticks)


def linear_ticks(highest: float, steps: int = 4) -> tuple[tuple[float, str], ...]:
    """Returns about `steps` round ticks from 0 to at least `highest`."""
    if not highest > 0:
        return ((0.0, "0"), (1.0, "1"))
    raw = highest / steps
    unit = 10 ** math.floor(math.log10(raw))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= raw * (1 - 1e-9))
    return tuple((step * tick, f"{step * tick:g}") for tick in range(math.ceil(highest / step - 1e-9) + 1))


def line_chart(
    description: str, x: Sequence[float], y: Sequence[float], across: Axis, up: Axis, marked: Sequence[float] = ()
) -> str:
    """Returns a line through (x, y).

    Args:
        description: what the chart shows, in words, for those who do not see it.
        x: rising values.
        y: as many values.
        across: the axis of `x`.
        up: the axis of `y`.
        marked: values of `x` whose points get a dot and their number, as a percentage.
    """
    points = [(_across(across.place(a)), _up(up.place(b))) for a, b in zip(x, y, strict=True)]
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
    parts = [f'<path class="line" d="{path}"/>']
    floor = _up(0)
    parts.insert(0, f'<path class="area" d="{path}L{points[-1][0]:.1f} {floor}L{points[0][0]:.1f} {floor}Z"/>')
    for value, (a, b), share in zip(x, points, y, strict=True):
        if value in marked:
            parts.append(f'<circle class="dot" cx="{a:.1f}" cy="{b:.1f}" r="3.5"/>')
            parts.append(
                f'<text class="value" x="{min(a + 6, _WIDTH - 40):.1f}" y="{min(b + 17, _up(0) - 5):.1f}">'
                f"{share:.1%}</text>"
            )
    return _svg(description, _axes(across, up) + "".join(parts))


def histogram(description: str, values: np.ndarray, label: str, up_label: str, bins: int = 10) -> str:
    """Returns a histogram of values in [0, 1] with equal bins; the last bin holds 1 too.

    Args:
        description: what the chart shows, in words.
        values: float [N] in [0, 1].
        label: of the axis of values.
        up_label: of the axis of counts.
        bins: number of bins.
    """
    counts, edges = np.histogram(values, bins=bins, range=(0.0, 1.0))
    across = Axis(label, UNIT_TICKS)
    up = Axis(up_label, linear_ticks(int(counts.max()) if counts.max() > 3 else 4))
    bars = []
    for count, start, end in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        left, right, top = _across(start) + 1, _across(end) - 1, _up(up.place(count))
        bars.append(
            f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{_up(0) - top:.1f}" '
            f'rx="1.5"><title>{start:.1f} to {end:.1f}: {count}</title></rect>'
        )
        if count:
            bars.append(
                f'<text class="value" x="{(left + right) / 2:.1f}" y="{top - 4:.1f}" '
                f'text-anchor="middle">{count}</text>'
            )
    return _svg(description, _axes(across, up) + "".join(bars))


def _across(place: float) -> float:
    return _LEFT + place * (_WIDTH - _LEFT - _RIGHT)


def _up(place: float) -> float:
    return _HEIGHT - _BOTTOM - place * (_HEIGHT - _TOP - _BOTTOM)


def _axes(across: Axis, up: Axis) -> str:
    parts = []
    for value, text in up.ticks:
        y = _up(up.place(value))
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{html.escape(text)}</text>')
    for value, text in across.ticks:
        x = _across(across.place(value))
        anchor = "end" if x > _WIDTH - 30 and len(text) > 3 else "middle"
        x_text = _WIDTH - 2 if anchor == "end" else x
        parts.append(f'<text x="{x_text:.1f}" y="{_up(0) + 16:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>')
    parts.append(f'<text class="axis" x="2" y="14">{html.escape(up.label)}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{html.escape(across.label)}</text>'
    )
    return "".join(parts)


def _svg(description: str, inside: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(description)}">'
        f"{inside}</svg>"
    )
