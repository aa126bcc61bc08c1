"""The report of a benchmark with several conditions whose queries are parts of photos."""

import html
import io
import re

import numpy as np
import pytest
from PIL import Image

from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.evaluation.album import Photos
from tfretrieval.evaluation.evaluate import evaluate_conditions
from tfretrieval.evaluation.protocols import PROTOCOLS
from tfretrieval.evaluation.report import ReportOptions, render_report

DATABASE, QUERIES, INSTANCES = 30, 12, 4


def photo(number):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def make_vectors():
    rng = np.random.default_rng(3)
    labels = np.arange(QUERIES) % INSTANCES, np.arange(DATABASE) % INSTANCES
    vectors = [np.eye(INSTANCES)[kind] + rng.normal(0, 0.9, (len(kind), INSTANCES)) for kind in labels]
    return [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32) for v in vectors]


CONDITIONS = ("easy", "medium", "hard")


@pytest.fixture(scope="module")
def judged():
    """A benchmark of three conditions whose queries are boxes, with one query that has no easy photo."""
    judgements = []
    for query in range(QUERIES):
        right = [row for row in range(DATABASE) if row % INSTANCES == query % INSTANCES]
        easy = right[:3] if query else []
        judgements.append(QueryJudgement(tuple(easy), tuple(right[3:5]), tuple(right[5:]), (8.0, 6.0, 40.0, 30.0)))
    relevances = PROTOCOLS["revisited"].relevances(judgements, DATABASE)
    found = evaluate_conditions(*make_vectors(), relevances, PROTOCOLS["revisited"])
    queries = Photos([f"q{n}" for n in range(QUERIES)], [""] * QUERIES, photo, boxes=[(0.1, 0.1, 0.5, 0.5)] * QUERIES)
    database = Photos([f"d{n}" for n in range(DATABASE)], [""] * DATABASE, lambda row: photo(50 + row))
    return found, queries, database


@pytest.fixture(scope="module")
def judged_page(judged, tmp_path_factory):
    path = tmp_path_factory.mktemp("judged") / "index.html"
    reason = "queries were described whole; revisited Oxford and Paris cut them to their boxes."
    protocol = {"ap": "trapezoidal", "valid": False, "reasons": [reason], "image_size": {"queries": 8, "database": 8}}
    render_report(path, *judged, ReportOptions("judged", header={"protocol": protocol}))
    return path


def test_every_condition_stands_on_the_page_with_its_numbers(judged_page, judged):
    text = judged_page.read_text()
    table = re.search(r'<table class="facts conditions">(.*?)</table>', text)[1]
    heads = re.findall(r"<th scope=\"col\">([^<]*)</th>", table)
    assert heads[:5] == ["Condition", "mAP", "mP@1", "mP@5", "mP@10"] and heads[-1] == "Queries"
    rows = re.findall(r'<th scope="row">(\w+)</th>(.*?)</tr>', table)
    assert [name for name, _ in rows] == list(CONDITIONS)
    for name, cells in rows:
        values, condition = re.findall(r"<td>(?:<b>)?([^<]*)", cells), judged[0].conditions[name]
        figures = [condition.figures[key] for key in ("map", "mp@1", "mp@5", "mp@10")]
        assert values[:4] == [f"{100 * figure:.2f} %" for figure in figures]
        assert int(values[-1]) == condition.queries == QUERIES - (name == "easy")
    assert "by condition</figcaption>" in text and text.count('<path class="line curve') == 6


def test_the_guard_is_told_and_the_average_precision_is_named(judged_page):
    text = html.unescape(judged_page.read_text())
    assert text.count("queries were described whole") == 2  # at the top, and in the folded head of the result
    assert '<div class="guard" role="note">' in text and "by trapezoids" in text
    assert "<dt>image size</dt><dd>8</dd>" in text


def test_boxes_are_cut_out_and_drawn(judged_page):
    text = judged_page.read_text()
    assert text.count("a frame shows the part that is searched for") == QUERIES
    assert text.count('<div class="frame whole">') == QUERIES


def test_the_table_of_queries_has_every_condition(judged_page, judged):
    table = re.search(r'id="queries-table">(.*?)</table>', judged_page.read_text())[1]
    rows = re.findall(r'<tr data-kind="(\w+)"><th scope="row">(?:<a [^>]*>)?(q\d+)(?:</a>)?</th>(.*?)</tr>', table)
    assert len(rows) == QUERIES
    for _, name, cells in rows:
        values = re.findall(r'<td data-value="([^"]*)">', cells)
        expected = [judged[0].conditions[condition].ap[int(name[1:])] for condition in CONDITIONS]
        assert [float(value or "nan") for value in values[:3]] == pytest.approx(expected, abs=1e-6, nan_ok=True)
        assert int(values[3]) == judged[0].relevant[int(name[1:])]
        assert int(values[4]) == judged[0].first_relevant_rank[int(name[1:])]
    medium = [float(re.findall(r'data-value="([^"]*)"', cells)[1]) for _, _, cells in rows]
    assert medium == sorted(medium)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window(judged_page, browser, width):
    browser.open(judged_page.as_uri(), width, dark=True)
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.run("document.querySelectorAll('#queries-table button')[3].focus()")
    browser.press("Enter")
    column = "[...document.querySelectorAll('#queries-table tbody tr')].map(row => row.cells[1].dataset.value)"
    browser.run("document.querySelectorAll('#queries-table button')[1].click()")
    values = browser.run(column)
    assert values[-1] == "" and values[:-1] == sorted(values[:-1], key=float)
    browser.run("document.querySelectorAll('#queries-table button')[1].click()")
    values = browser.run(column)
    assert values[-1] == "" and values[:-1] == sorted(values[:-1], key=float, reverse=True)
    assert browser.log == []
