"""Further sections for a report: a comparison, a training's course, a table of facts.

A section is a title, a paragraph and blocks. Whoever writes a page names facts and values; every text is escaped
here, so no block takes HTML.
"""

import dataclasses
import html
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from tfretrieval.evaluation import charts, strips
from tfretrieval.evaluation.album import Album, Photos
from tfretrieval.evaluation.evaluate import Evaluation
from tfretrieval.evaluation.page_parts import breakable


class Block(Protocol):
    """One figure or table of a section."""

    def html(self, album: Album) -> str:
        """Returns the block's HTML; photos go through the album."""


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: plain text.
        text: a paragraph of plain text; none where empty.
        blocks: what stands below it.
    """

    title: str
    text: str = ""
    blocks: tuple[Block, ...] = ()

    def html(self, album: Album, anchor: str) -> str:
        """Returns the section's HTML under the element id `anchor`."""
        text = f"<p>{html.escape(self.text)}</p>" if self.text else ""
        blocks = "".join(block.html(album) for block in self.blocks)
        return (
            f'<section id="{anchor}" aria-labelledby="{anchor}-title"><h2 id="{anchor}-title">'
            f"{html.escape(self.title)}</h2>{text}{blocks}</section>"
        )


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of plain texts; columns that hold numbers only stand to the right.

    Attributes:
        columns: headings.
        rows: one text for each column.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def html(self, album: Album) -> str:
        """Returns the table."""
        del album
        head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in self.columns)
        body = "".join(
            "<tr>"
            + f'<th scope="row">{html.escape(row[0])}</th>'
            + "".join(f"<td>{html.escape(str(value))}</td>" for value in row[1:])
            + "</tr>"
            for row in self.rows
        )
        return _table("facts", head, body)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same queries, number by number, with bars.

    Attributes:
        names: what the two are called ("untrained", "trained").
        before: the first evaluation.
        after: the second.
    """

    names: tuple[str, str]
    before: Evaluation
    after: Evaluation

    def html(self, album: Album) -> str:
        """Returns a table with a pair of bars for each number."""
        del album
        pairs = [("mAP", self.before.map, self.after.map)]
        pairs += [(f"R@{k}", self.before.recall_at[k], self.after.recall_at[k]) for k in self.after.recall_at]
        rows = "".join(
            f'<tr><th scope="row">{metric}</th><td>{_bar(first, "before")}</td><td>{_bar(second, "after")}</td>'
            f"<td>{100 * (second - first):+.1f} points</td></tr>"
            for metric, first, second in pairs
        )
        first, second = map(html.escape, self.names)
        head = "".join(f'<th scope="col">{title}</th>' for title in ("Number", first, second, "Difference"))
        return _table("comparison", head, rows)


@dataclasses.dataclass(frozen=True)
class BeforeAndAfter:
    """The ranked photos of some queries in two evaluations, one above the other.

    Attributes:
        names: what the two evaluations are called.
        before: the first.
        after: the second, of the same queries and database.
        queries: the query photos.
        database: the database photos.
        rows: the queries shown.
    """

    names: tuple[str, str]
    before: Evaluation
    after: Evaluation
    queries: Photos
    database: Photos
    rows: tuple[int, ...]

    def html(self, album: Album) -> str:
        """Returns a pair of strips for each query."""
        return "".join(self._pair(album, row) for row in self.rows)

    def _pair(self, album: Album, row: int) -> str:
        lines = "".join(
            f'<h4>{html.escape(name)} <b class="ap">AP {evaluation.ap[row]:.3f}</b></h4>'
            + strips.results_list(album, evaluation, row, self.database)
            for name, evaluation in zip(self.names, (self.before, self.after), strict=True)
        )
        return (
            f'<article class="strip pair"><header><h3>{breakable(self.queries.ids[row])}</h3></header>'
            f'<div class="row">{strips.query_figure(album, self.queries, row)}<div>{lines}</div></div></article>'
        )


@dataclasses.dataclass(frozen=True)
class TrainingCourse:
    """Loss and validation mAP over the epochs.

    Attributes:
        history: a training's `history.json`: dictionaries with `epoch`, `loss` and `validation_map` (or None).
    """

    history: Sequence[dict]

    def html(self, album: Album) -> str:
        """Returns a chart of the loss and, where there was a validation, one of its mAP."""
        del album
        figures = [self._chart("loss", "Loss", charts.linear_ticks(max((e["loss"] for e in self.history), default=0)))]
        if any(entry.get("validation_map") is not None for entry in self.history):
            figures.append(self._chart("validation_map", "Validation mAP", charts.UNIT_TICKS))
        return f'<div class="charts">{"".join(figures)}</div>'

    def _chart(self, key: str, title: str, ticks: tuple[tuple[float, str], ...]) -> str:
        known = [(entry["epoch"], entry[key]) for entry in self.history if entry.get(key) is not None]
        epochs, values = zip(*known, strict=True) if known else ((0,), (0.0,))
        step = max(1, -(-(epochs[-1] - epochs[0]) // 6))
        shown = sorted({*range(epochs[0], epochs[-1] + 1 - step // 2, step), epochs[-1]})
        across = charts.Axis("epoch", tuple((float(epoch), str(epoch)) for epoch in shown))
        description = f"{title} over {len(known)} epochs, from {values[0]:.3g} to {values[-1]:.3g}."
        chart = charts.line_chart(description, epochs, values, across, charts.Axis("", ticks))
        return f'<figure class="card"><figcaption>{title}</figcaption>{chart}</figure>'


def comparison_section(
    names: tuple[str, str],
    evaluations: tuple[Evaluation, Evaluation],
    queries: Photos,
    database: Photos,
    shown: int = 3,
) -> Section:
    """Returns what changed between two evaluations of the same queries.

    Shown are the queries whose AP rose most, one of each instance, and the one that fell most where any fell: a page
    that showed gains only would mislead.

    Args:
        names: what the two are called ("untrained", "trained").
        evaluations: of the two, in that order.
        queries: the query photos.
        database: the database photos.
        shown: queries shown before the one that fell.
    """
    before, after = evaluations
    gain = np.nan_to_num(after.ap - before.ap, nan=0.0)
    picked: dict[str, int] = {}
    for row in np.argsort(-gain, kind="stable").tolist():
        if len(picked) < shown and gain[row] > 0:
            picked.setdefault(queries.instances[row], row)
    rows = list(picked.values())
    if gain.min() < 0:
        rows.append(int(gain.argmin()))
    text = f"The same {after.queries:,} queries, {names[0]} and {names[1]}. Below, the queries that gained most" + (
        ", and last the one that lost most." if gain.min() < 0 else "; none lost."
    )
    blocks = (Comparison(names, before, after), BeforeAndAfter(names, before, after, queries, database, tuple(rows)))
    return Section(f"{names[0]} and {names[1]}".capitalize(), text, blocks)


def _table(kind: str, head: str, body: str) -> str:
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _bar(value: float, kind: str) -> str:
    # NaN has no bar, and its text says so.
    width = 0.0 if np.isnan(value) else 100 * min(max(value, 0.0), 1.0)
    return f'<span class="track"><span class="{kind}" style="width:{width:.1f}%"></span></span> <b>{value:.1%}</b>'
