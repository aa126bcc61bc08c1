"""The page that shows an evaluation: one HTML file with numbers, curves, ranked photos, a map, and errors explained."""

import dataclasses
import html
import math
import string
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfretrieval import files
from tfretrieval.evaluation import page_parts, report_summary, strips
from tfretrieval.evaluation.album import Album, Photos
from tfretrieval.evaluation.confusion_section import confusion_articles, intro
from tfretrieval.evaluation.confusions import Explain, find_confusions
from tfretrieval.evaluation.descriptor_map import DescriptorMap
from tfretrieval.evaluation.evaluate import Evaluation
from tfretrieval.evaluation.map_section import map_section
from tfretrieval.evaluation.object_pictures import ObjectPictures
from tfretrieval.evaluation.page_parts import resource
from tfretrieval.evaluation.query_table import MAX_ROWS, instance_table, query_table
from tfretrieval.evaluation.report_charts import report_charts
from tfretrieval.evaluation.story import Section
from tfretrieval.evaluation.strip_pages import write_strip_pages

MAX_WORST = 20_000
MAX_CONFUSIONS = 50
# Strips in the page itself: 250 worst and 50 best queries with ten photos each are about 1.5 MB of text.
_WORST_ON_PAGE = 250
_SIDES = ((1400, 128), (math.inf, 96))
_MAP_SIDE, _CONFUSION_SIDE = 64, 480
# Bytes of embedded photos; what is more lies in files. With the text of all sections they stay below 15 MB.
_STRIP_BYTES, _MAP_BYTES, _CONFUSION_BYTES = 6_000_000, 3_200_000, 1_200_000


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """What a report shows beside the evaluation.

    Attributes:
        title: the page's heading; the benchmark's name, say.
        worst: queries of the lowest AP shown, 0..20,000; a fifth as many of the highest follow. Above 250 and 50, those
            between have their strips on further pages in the folder `strips` beside the page.
        notes: sentences that a reader of the numbers should know.
        header: the result file's head (`provenance.header`), shown folded at the end; its `protocol` is shown at the
            top, with the reasons where its `valid` is false.
        story: further sections, shown between the numbers and the curves.
        objects: the photos' objects, drawn over them where photos were searched by their objects.
        map: the descriptors as points of a plane; none where not given.
        confusions: wrong first results explained, 0..50.
        explain: what positions contribute to two photos' similarity (`confusions.explainer`), drawn where given.
    """

    title: str
    worst: int = 100
    notes: tuple[str, ...] = ()
    header: Mapping[str, object] = dataclasses.field(default_factory=dict)
    story: tuple[Section, ...] = ()
    objects: ObjectPictures | None = None
    map: DescriptorMap | None = None
    confusions: int = 8
    explain: Explain | None = None

    def __post_init__(self):
        for name, most in (("worst", MAX_WORST), ("confusions", MAX_CONFUSIONS)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; 0 to {most} is wanted.")


def render_report(
    path: str | Path, evaluation: Evaluation, queries: Photos, database: Photos, options: ReportOptions
) -> None:
    """Writes the page.

    It needs no network. Photos are embedded once each while they are few enough for the page to stay below 15 MB;
    otherwise they are files in the folder `strips` beside it, and are loaded when they come into view.

    Args:
        path: the HTML file, written atomically.
        evaluation: what to show; its rows are those of `queries`, its `top` holds rows of `database`.
        queries: the query photos.
        database: the database photos.
        options: title, extent and further sections.

    Raises:
        InputError: a photo that the page shows cannot be decoded.
    """
    _Report(Path(path), evaluation, queries, database, options).write()


class _Report:
    """One page while it is made: the evaluation, the photos, and the albums that collect their thumbnails."""

    def __init__(self, path: Path, evaluation: Evaluation, queries: Photos, database: Photos, options: ReportOptions):
        self._path, self._evaluation, self._options = path, evaluation, options
        self._queries, self._database = queries, database
        self._on_page, self._beside = _shown_queries(evaluation, options.worst)
        photos = len(self._on_page) * (1 + evaluation.top.order.shape[1])
        side = next(side for most, side in _SIDES if photos <= most)
        self._album = Album(side, path.parent, _STRIP_BYTES)
        self._map_album = Album(_MAP_SIDE, path.parent, _MAP_BYTES, "m")
        self._large_album = Album(_CONFUSION_SIDE, path.parent, _CONFUSION_BYTES, "c")

    def write(self) -> None:
        """Writes the page and what lies beside it."""
        parts = self._head() | self._sections()
        albums = self._album, self._map_album, self._large_album
        sources = {key: source for album in albums for key, source in album.sources().items()}
        page = string.Template(resource("report.html")).substitute(parts, photos=page_parts.script_json(sources))
        for album in albums:
            page = album.placed(page)
        files.write_text(self._path, page)

    def _strip(self, row: int) -> str:
        objects = self._options.objects
        return strips.query_strip(self._album, self._evaluation, row, self._queries, self._database, objects)

    def _css(self) -> str:
        return resource("report.css") + (resource("objects.css") if self._options.objects else "")

    def _head(self) -> dict[str, str]:
        """Returns what stands above the sections, and what the page is made with."""
        options, evaluation = self._options, self._evaluation
        protocol = options.header.get("protocol") or {}
        drawn = options.objects
        return {
            "title": html.escape(options.title),
            "lead": report_summary.lead(evaluation),
            "context": report_summary.context(evaluation, self._queries),
            "guard": report_summary.guard(protocol),
            "tiles": report_summary.tiles(evaluation),
            "conditions": report_summary.conditions_table(evaluation),
            "notes": report_summary.notes(evaluation, options.notes),
            "protocol": report_summary.protocol_list(protocol),
            "protocol_hidden": "" if protocol else "hidden",
            "ap": report_summary.ap_definition(protocol),
            "charts": report_charts(evaluation),
            "header": page_parts.header_section(options.header),
            "objects_key": drawn.key() if drawn else "",
            "objects_method": f"<div><dt>Objects</dt><dd>{html.escape(drawn.method())}</dd></div>" if drawn else "",
            "css": self._css(),
            "script": resource("report.js"),
        }

    def _sections(self) -> dict[str, str]:
        """Returns the sections with photos, and the links to those that not every page has."""
        options, evaluation = self._options, self._evaluation
        story = [(f"story-{number}", section) for number, section in enumerate(options.story, 1)]
        told = "".join(section.html(self._album, anchor) for anchor, section in story)
        ranked = "".join(map(self._strip, self._on_page.tolist()))
        links = {row: f"#q{row}" for row in self._on_page.tolist()}
        if len(self._beside):
            self._album.to_files()
            links |= write_strip_pages(self._path, options.title, self._beside, self._album, self._strip, self._css())
        named = {name for row in self._on_page.tolist() for name in self._queries.names(row)}
        instances = instance_table(evaluation, self._queries, named)
        names = lambda query, row: (self._queries.label(query), self._database.label(row))  # noqa: E731
        found = find_confusions(evaluation, options.confusions, names)
        confused = confusion_articles(self._large_album, found, self._queries, self._database, options.explain)
        chart = options.map and map_section(
            self._map_album, options.map, evaluation, self._queries, self._database, links
        )
        return {
            "story_links": "".join(
                f'<a href="#{anchor}">{html.escape(section.title)}</a>' for anchor, section in story
            ),
            "story": told,
            "queries": query_table(evaluation, self._queries, links),
            "queries_said": self._queries_said(),
            "shown": _shown_sentence(evaluation, self._on_page, self._beside, options.worst),
            "controls_hidden": "" if len(self._on_page) else "hidden",
            "strips": ranked,
            "confusions": confused,
            "confusions_said": intro(options.explain is not None),
            "confusions_hidden": "" if confused else "hidden",
            "map": chart or "",
            "map_hidden": "" if chart else "hidden",
            "instances": instances,
            "instances_hidden": "" if instances else "hidden",
        }

    def _queries_said(self) -> str:
        count = self._evaluation.queries
        which = f"The {MAX_ROWS:,} worst of {count:,} queries; metrics.json has all." if count > MAX_ROWS else ""
        linked = " Linked names lead to their strips." if len(self._on_page) else ""
        return f"{which} A heading sorts the table.{linked}".strip()


def _shown_queries(evaluation: Evaluation, worst: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of the page's strips, and those on further pages, each in order of rising AP.

    The page has the worst, then the best; when they are more than it has room for, those between lie beside it.
    """
    order = evaluation.worst_first()
    best = worst // 5
    shown = order if len(order) <= worst + best else np.concatenate([order[:worst], order[len(order) - best :]])
    first, last = min(worst, _WORST_ON_PAGE), min(best, _WORST_ON_PAGE // 5)
    if len(shown) <= first + last:
        return shown, shown[:0]
    return np.concatenate([shown[:first], shown[len(shown) - last :]]), shown[first : len(shown) - last]


def _shown_sentence(evaluation: Evaluation, on_page: np.ndarray, beside: np.ndarray, worst: int) -> str:
    shown = len(on_page)
    if not shown:
        return "No query is shown."
    measured = evaluation.queries - evaluation.queries_without_relevant
    if shown == measured:
        return f"All {measured:,} queries, the worst first."
    worst = min(worst, _WORST_ON_PAGE)
    best = f" and the {shown - worst:,} best" if shown > worst else ""
    further = f" {len(beside):,} more are on further pages, which the table of queries links." if len(beside) else ""
    return f"The {worst:,} worst{best} of {measured:,} queries, the worst first.{further}"
