"""Horizontal bars as an SVG file of its own, with light and dark colours."""

import html
from collections.abc import Mapping
from pathlib import Path

_WIDTH, _TOP, _STEP, _DEPTH = 760, 70, 40, 14
_LETTER = 6.6  # pixels, about, of a letter of 12 px
_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; fill: #1c2024 }
.paper { fill: #ffffff } .title { font-size: 18px; font-weight: 600 } .soft { font-size: 12px; fill: #5a6169 }
.bar { fill: #a9b0b6 } .ours { fill: #0b6a86 }
@media (prefers-color-scheme: dark) {
  .paper { fill: #1d2125 } text { fill: #e8eaec } .soft { fill: #a3abb3 } .bar { fill: #6c757d } .ours { fill: #6fc1da }
}
"""


def draw(title: str, note: str, values: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """Draws bars from 0, longest for the largest value; a name stands above its bar and a label behind it.

    Args:
        title: the first line.
        note: the second line: what the values are.
        values: 0 or more by name, from the top; names that begin with "this toolkit" get the accent's colour.
        labels: text by name.

    Returns:
        The SVG document.
    """
    largest = max(values.values(), default=0) or 1
    room = _WIDTH - 40 - _LETTER * max(map(len, labels.values()), default=0)
    height = _TOP + _STEP * len(values) + 10
    said = f"{title}. {note}: " + "; ".join(f"{name} {labels[name]}" for name in values)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(said)}">\n<style>{_STYLE}</style>',
        f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
        f'<text class="title" x="16" y="30">{html.escape(title)}</text>',
        f'<text class="soft" x="16" y="50">{html.escape(note)}</text>',
    ]
    for number, (name, value) in enumerate(values.items()):
        top, length = _TOP + _STEP * number, room * value / largest
        kind = "bar ours" if name.startswith("this toolkit") else "bar"
        parts += [
            f'<text x="16" y="{top + 10}">{html.escape(name)}</text>',
            f'<rect class="{kind}" x="16" y="{top + 16}" width="{length:.1f}" height="{_DEPTH}" rx="2"/>',
            f'<text class="soft" x="{16 + length + 7:.1f}" y="{top + 27}">{html.escape(labels[name])}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])


def save(path: str | Path, title: str, note: str, values: Mapping[str, float], labels: Mapping[str, str]) -> None:
    """Writes what `draw` returns; the folder is made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(draw(title, note, values, labels), encoding="utf-8")
