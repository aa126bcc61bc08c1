"""What an analysis of object embeddings leaves: `analysis.json`, a picture of its bars, and a page that tells it."""

import dataclasses
import html
import string
from collections.abc import Mapping
from pathlib import Path

from tfretrieval import files
from tfretrieval.evaluation import charts
from tfretrieval.evaluation.bar_picture import draw_bars
from tfretrieval.evaluation.object_analysis import METHODS, TIMED_OBJECTS, MethodResult
from tfretrieval.evaluation.object_findings import Finding, findings
from tfretrieval.evaluation.page_parts import header_section, resource
from tfretrieval.object_extraction import ANNOTATED, FOUND

ANALYSIS, PICTURE, PAGE = "analysis.json", "chart.png", "index.html"
_FROM = {
    FOUND: "The queries’ are the annotated ones; those of database photos are found by the guided student’s detector.",
    ANNOTATED: "The annotated ones, of queries and of database photos.",
}
_SERIES, _AXIS = ("mAP", "R@1"), "share, more is better"


@dataclasses.dataclass(frozen=True)
class AnalysisResult:
    """An analysis as it is told.

    Attributes:
        title: the name of the photos, say.
        rows: one of each key of `METHODS`, in their order.
        counts: of `ObjectAnalysis.counts`.
        boxes: of `AnalysisOptions`: which boxes the database photos have.
        header: the result file's head (`provenance.header`).
    """

    title: str
    rows: tuple[MethodResult, ...]
    counts: Mapping[str, int]
    boxes: str
    header: Mapping[str, object]

    def findings(self) -> tuple[Finding, ...]:
        """Returns what the rows say of the paper's findings."""
        return findings(self.rows)

    def of(self, method: str) -> MethodResult:
        """Returns the row of a method."""
        return next(row for row in self.rows if row.method == method)

    def save(self, folder: Path) -> None:
        """Writes `analysis.json`, `chart.png` and `index.html` into a folder."""
        told = [dataclasses.asdict(row) for row in self.rows]
        judged = [dataclasses.asdict(finding) for finding in self.findings()]
        files.write_json(folder / ANALYSIS, {**self.header, **self.counts, "rows": told, "findings": judged})
        picture = draw_bars(f"Object embeddings: {self.title}", _context(self), _SERIES, _bars(self), _AXIS)
        picture.save(folder / PICTURE)
        files.write_text(folder / PAGE, render_page(self))


def analysis_lines(rows: tuple[MethodResult, ...]) -> list[str]:
    """Returns the rows as lines of a Markdown table, and the findings below it."""
    lines = ["| | mAP | R@1 | passes | ms a photo |", "|---" * 5 + "|"]
    lines += [
        f"| ({row.method}) {METHODS[row.method]} | {row.map:.3f} | {row.recall_at_1:.3f} | {row.passes} | "
        f"{row.milliseconds:.1f} |"
        for row in rows
    ]
    return [*lines, *(f"{one.claim}: {one.verdict}. {one.figures}" for one in findings(rows))]


def render_page(result: AnalysisResult) -> str:
    """Returns the page: one HTML file that needs no other, no network and no script."""
    described = "; ".join(f"({row.method}) mAP {row.map:.3f}, R@1 {row.recall_at_1:.3f}" for row in result.rows)
    chart = charts.bar_chart(f"{described}.", _SERIES, _bars(result), _AXIS)
    return string.Template(resource("analysis.html")).substitute(
        title=html.escape(result.title),
        lead=_lead(result),
        context=html.escape(_context(result)),
        findings="".join(map(_finding, result.findings())),
        chart=chart,
        rows="".join(map(_row, result.rows)),
        cost=_cost(result),
        boxes=_FROM[result.boxes],
        header=header_section(result.header),
        css=resource("report.css") + resource("analysis.css"),
    )


def _bars(result: AnalysisResult) -> list[charts.Bars]:
    return [charts.Bars(f"({row.method}) {METHODS[row.method]}", (row.map, row.recall_at_1)) for row in result.rows]


def _lead(result: AnalysisResult) -> str:
    crops, student = result.of("c"), result.of("f")
    if not crops.map > 0:
        return "The classifier on crops finds nothing."
    return (
        f"The guided student reaches <b>{student.map / crops.map:.1%}</b> of the mAP of the classifier on crops, in "
        f"<b>{student.passes} pass</b> of a network instead of {crops.passes}."
    )


def _context(result: AnalysisResult) -> str:
    counts = result.counts
    without = counts["queries_without_relevant"]
    left_out = f"; {without:,} have nothing to find and are left out" if without else ""
    return (
        f"{counts['queries']:,} objects of {counts['query_photos']:,} photos are searched for among "
        f"{counts['database']:,} photos{left_out}."
    )


def _finding(finding: Finding) -> str:
    kind = "right" if finding.holds else "wrong"
    return (
        f'<li class="card {kind}"><span class="badge">{finding.verdict}</span><h3>{html.escape(finding.claim)}</h3>'
        f"<p>{html.escape(finding.figures)}</p></li>"
    )


def _row(row: MethodResult) -> str:
    return (
        f'<tr><th scope="row">({row.method}) {html.escape(METHODS[row.method])}</th><td><b>{row.map:.3f}</b></td>'
        f"<td>{row.recall_at_1:.3f}</td><td>{row.passes}</td><td>{row.milliseconds:.1f} ms</td></tr>"
    )


def _cost(result: AnalysisResult) -> str:
    crops, student = result.of("c"), result.of("f")
    times = f" (c) takes {crops.milliseconds / student.milliseconds:.1f} times as long as (f)." * (
        student.milliseconds > 0
    )
    return (
        f"Passes of a network, and their median time without decoding, for one photo with {TIMED_OBJECTS} objects, "
        f"finding them included where boxes are needed.{times}"
    )
