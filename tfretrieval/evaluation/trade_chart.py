"""A chart of what is traded for what, several lines or dots with a key, as an SVG file of its own."""

import html
import math
from collections.abc import Sequence

from tfretrieval.evaluation.charts import Axis, Curve

_WIDTH, _HEIGHT = 900, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 330, 60, 60  # the key stands on the right
_COLOURS = ("#0b6a86", "#c2571a", "#5b7f2b", "#7a4f9a", "#b08a00", "#a83250", "#3f6fd1", "#4a4f55")
_DASHES = ("none", "7 4", "2 3")
_STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#5a6169}.title{font-size:18px;fill:#1c2024}"
    ".grid{stroke:#dedbd4;stroke-width:1}.line{fill:none;stroke-width:2}"
)


def rate_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Returns ticks 1, 2, 5, 10, 20, ... around positive numbers, for a logarithmic axis."""
    steps = [factor * 10.0**power for power in range(-3, 10) for factor in (1, 2, 5)]
    first = max(step for step in steps if step <= low or step == steps[0])
    last = min(step for step in steps if step >= high or step == steps[-1])
    chosen = [step for step in steps if first <= step <= max(last, first * 2)]
    if len(chosen) > 8:
        tens = range(math.floor(math.log10(first) + 1e-9), math.ceil(math.log10(last) - 1e-9) + 1)
        chosen = [10.0**power for power in tens]
    return tuple((step, _short(step)) for step in chosen)


def byte_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Returns powers of 2 around positive numbers, for a logarithmic axis."""
    first = math.floor(math.log2(low))
    last = max(math.ceil(math.log2(high)), first + 1)
    return tuple((2.0**power, _short(2.0**power)) for power in range(first, last + 1))


def share_ticks(low: float, high: float = 1.0) -> tuple[tuple[float, str], ...]:
    """Returns ticks around shares, from below `low` to above `high`."""
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if step == 0.2 or (high - low) / step <= 7)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple((step * tick, f"{step * tick:.2f}") for tick in range(min(first, last - 1), last + 1))


def trade_chart(title: str, curves: Sequence[Curve], across: Axis, up: Axis) -> str:
    """Returns an SVG document: each curve a line with a dot at every point, and a key with all names.

    Args:
        title: what the chart shows.
        curves: the lines; a line of one point is a dot.
        across: the axis of `x`.
        up: the axis of `y`.
    """
    parts = [f'<text class="title" x="{_LEFT}" y="30">{html.escape(title)}</text>', _axes(across, up)]
    for number, curve in enumerate(curves):
        colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS) % len(_DASHES)]
        filled = number < len(_COLOURS)  # colours that come again have rings for dots
        paint = f'fill="{colour if filled else "#ffffff"}" stroke="{colour}" stroke-width="2"'
        points = [(_x(across.place(a)), _y(up.place(b))) for a, b in zip(curve.x, curve.y, strict=True)]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        parts.append(f'<path class="line" stroke="{colour}" stroke-dasharray="{dash}" d="M{path}"/>')
        for (a, b), value, share in zip(points, curve.x, curve.y, strict=True):
            told = html.escape(f"{curve.name}: {_short(value)}, {share:.3f}")
            parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" {paint}><title>{told}</title></circle>')
        level = _TOP + 8 + 24 * number
        left = _WIDTH - _RIGHT + 20
        parts.append(f'<path class="line" stroke="{colour}" stroke-dasharray="{dash}" d="M{left} {level}h24"/>')
        parts.append(f'<circle cx="{left + 12}" cy="{level}" r="4" {paint}/>')
        parts.append(f'<text x="{left + 32}" y="{level + 5}">{html.escape(curve.name)}</text>')
    height = max(_HEIGHT, _TOP + 24 * len(curves) + 20)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{html.escape(title)}"><style>{_STYLE}</style>'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _axes(across: Axis, up: Axis) -> str:
    parts = []
    for value, text in up.ticks:
        y = _y(up.place(value))
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{html.escape(text)}</text>')
    for value, text in across.ticks:
        x = _x(across.place(value))
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{html.escape(text)}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 14}" text-anchor="middle">{html.escape(across.label)}</text>')
    parts.append(f'<text x="10" y="{_TOP - 12}">{html.escape(up.label)}</text>')
    return "".join(parts)


def _x(place: float) -> float:
    return _LEFT + place * (_WIDTH - _LEFT - _RIGHT)


def _y(place: float) -> float:
    return _HEIGHT - _BOTTOM - place * (_HEIGHT - _TOP - _BOTTOM)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"
