"""Small charts as inline SVG; colours and fonts come from the page's style sheet."""

import dataclasses
import html
import math
from collections.abc import Sequence

import numpy as np

_WIDTH, _HEIGHT = 360, 236
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 32, 42
_BAR_LEFT, _BAR_RIGHT = 8, 44  # room for a value behind a bar of 1


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


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line of a chart of several.

    Attributes:
        name: what it is of.
        x: rising values.
        y: as many values.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]


CURVES = 4  # lines that are told apart by colour and dashes; the style sheet has as many


def curves_chart(description: str, curves: Sequence[Curve], across: Axis, up: Axis) -> str:
    """Returns up to `CURVES` lines in one chart, each with its own colour and dashes, and a key.

    Args:
        description: what the chart shows, in words.
        curves: the lines.
        across: the axis of `x`.
        up: the axis of `y`.
    """
    if len(curves) > CURVES:
        raise ValueError(f"{len(curves)} curves are more than the {CURVES} that can be told apart.")
    parts, left = [], float(_WIDTH - _RIGHT)
    for number, curve in reversed(list(enumerate(curves))):
        points = (
            f"{_across(across.place(a)):.1f} {_up(up.place(b)):.1f}" for a, b in zip(curve.x, curve.y, strict=True)
        )
        parts.append(
            f'<path class="line curve{number}" d="M{"L".join(points)}"><title>{html.escape(curve.name)}</title></path>'
        )
        if not curve.name:
            continue
        left -= 7.2 * len(curve.name) + 32
        parts.append(f'<path class="line curve{number}" d="M{left:.1f} 10h18"/>')
        parts.append(f'<text x="{left + 23:.1f}" y="14">{html.escape(curve.name)}</text>')
    return _svg(description, _axes(across, up) + "".join(parts))


def scatter_chart(description: str, points: Sequence[tuple[float, float, str, str]], across: Axis, up: Axis) -> str:
    """Returns dots in a square, with the diagonal where both values are equal.

    Args:
        description: what the chart shows, in words.
        points: of each its values across and up, the class of its dot, and its name.
        across: the axis of the first value.
        up: the axis of the second.
    """
    dots = "".join(
        f'<circle class="dot {kind}" cx="{_across(across.place(a)):.1f}" cy="{_up(up.place(b)):.1f}" r="3">'
        f"<title>{html.escape(name)}</title></circle>"
        for a, b, kind, name in points
    )
    diagonal = f'<path class="grid diagonal" d="M{_across(0):.1f} {_up(0):.1f}L{_across(1):.1f} {_up(1):.1f}"/>'
    return _svg(description, _axes(across, up) + diagonal + dots)


@dataclasses.dataclass(frozen=True)
class Bars:
    """The bars of one thing.

    Attributes:
        label: what they are of.
        values: one for each series, in [0, 1].
    """

    label: str
    values: tuple[float, ...]


def bar_chart(description: str, series: Sequence[str], groups: Sequence[Bars], label: str) -> str:
    """Returns horizontal bars from 0 to 1, those of a thing below its label, each with its value.

    Labels stand above their bars, so that long ones fit a phone. The first series is drawn in the accent's colour, the
    others thinner in a grey.

    Args:
        description: what the chart shows, in words.
        series: what the bars of a thing are, in order.
        groups: the things, from the top; one value for each series.
        label: of the axis.
    """
    depths = [13 if number == 0 else 9 for number in range(len(series))]
    step = 30 + sum(depths) + 2 * (len(depths) - 1)
    floor = 34 + step * len(groups)
    place = lambda value: _BAR_LEFT + min(max(value, 0.0), 1.0) * (_WIDTH - _BAR_LEFT - _BAR_RIGHT)  # noqa: E731
    parts = [_legend(series)]
    for value, text in UNIT_TICKS:
        parts.append(f'<path class="grid" d="M{place(value):.1f} 28V{floor}"/>')
        parts.append(f'<text x="{place(value):.1f}" y="{floor + 15}" text-anchor="middle">{text}</text>')
    middle = (place(0) + place(1)) / 2
    parts.append(
        f'<text class="axis" x="{middle:.1f}" y="{floor + 32}" text-anchor="middle">{html.escape(label)}</text>'
    )
    for number, group in enumerate(groups):
        top = 34 + step * number
        parts.append(f'<text class="label halo" x="{_BAR_LEFT}" y="{top + 12}">{html.escape(group.label)}</text>')
        top += 18
        for kind, depth, name, value in zip(_kinds(series), depths, series, group.values, strict=True):
            parts.append(
                f'<rect class="{kind}" x="{_BAR_LEFT}" y="{top}" width="{place(value) - _BAR_LEFT:.1f}" '
                f'height="{depth}" rx="1.5"><title>{html.escape(name)}: {value:.3f}</title></rect>'
                f'<text class="value halo" x="{place(value) + 5:.1f}" y="{top + depth / 2 + 4:.1f}">{value:.3f}</text>'
            )
            top += depth + 2
    return _svg(description, "".join(parts), floor + 38)


def _kinds(series: Sequence[str]) -> list[str]:
    return ["bar", *["bar other"] * (len(series) - 1)]


def _legend(series: Sequence[str]) -> str:
    parts, left = [], float(_BAR_LEFT)
    for kind, name in zip(_kinds(series), series, strict=True):
        parts.append(f'<rect class="{kind}" x="{left:.1f}" y="6" width="11" height="11" rx="1.5"/>')
        parts.append(f'<text x="{left + 16:.1f}" y="16">{html.escape(name)}</text>')
        left += 34 + 6.5 * len(name)
    return "".join(parts)


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


def _svg(description: str, inside: str, height: int = _HEIGHT) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{html.escape(description)}">'
        f"{inside}</svg>"
    )
