import html
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tfretrieval.errors import InputError
from tfretrieval.evaluation import comparison_page
from tfretrieval.evaluation.album import Photos
from tfretrieval.evaluation.benchmark import Benchmark
from tfretrieval.evaluation.comparison_page import ComparedPhotos, ComparisonOptions, render_comparison
from tfretrieval.evaluation.evaluate import evaluate
from tfretrieval.evaluation.relevance import Relevance
from tfretrieval.evaluation.shown_ranking import ShownRanking
from tfretrieval.evaluation.two_runs import MeasuredRun, compare_runs
from tfretrieval.search.ranking import Ranking

HOSTILE = "<script>alert('x')</script>\"&$title"
QUERIES, DATABASE = 24, 40


def photo(row):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(row).integers(0, 256, (30, 40, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def measured(seed, noise):
    rng = np.random.default_rng(seed)
    labels = np.arange(QUERIES) % 5, np.arange(DATABASE) % 5
    vectors = [np.eye(5)[kind] + noise * rng.normal(size=(len(kind), 5)) for kind in labels]
    vectors = [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32) for v in vectors]
    return evaluate(*vectors, Relevance.by_instance(*labels))


def run_of(folder, name, evaluation, ids):
    per_query = [
        {"id": photo, "ap": ap, "first_relevant_rank": rank or None}
        for photo, ap, rank in zip(ids, evaluation.ap.tolist(), evaluation.first_relevant_rank.tolist(), strict=True)
    ]
    content = {"per_query": per_query, "protocol": {}, "data": {}, "protocols": {"all": {"map": evaluation.map}}}
    (folder / name).mkdir()
    (folder / name / "metrics.json").write_text(json.dumps(content))
    ShownRanking(evaluation.top, evaluation.top_is_relevant).save(folder / name)
    return MeasuredRun.load(folder / name)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    ids = [f"q{n}/{HOSTILE}" for n in range(QUERIES)]
    evaluations = measured(0, 0.9), measured(1, 0.6)
    runs = [run_of(folder, name, each, ids) for name, each in zip("ab", evaluations, strict=True)]
    found = compare_runs(*runs)
    queries = Photos(ids, [f"kind {n % 5}" for n in range(QUERIES)], photo)
    database = Photos([f"d{n}" for n in range(DATABASE)], [f"kind {n % 5}" for n in range(DATABASE)], photo)
    photos = ComparedPhotos(*(ShownRanking.load(folder / name) for name in "ab"), queries, database)
    options = ComparisonOptions((HOSTILE, "new"), (f"note {HOSTILE}",), {"flags": {"a": HOSTILE}}, photos, 3)
    render_comparison(folder / "index.html", found, options)
    return folder / "index.html", found, evaluations, photos


def test_the_page_says_what_was_found(made):
    path, found, evaluations, _ = made
    text, paired = path.read_text(), found["paired"]
    assert text.count("<script") == 2 and HOSTILE in html.unescape(text)
    points = 100 * (evaluations[1].map - evaluations[0].map)
    assert f"<b>{abs(points):.1f} points of mAP {'better' if points > 0 else 'worse'}</b>" in text
    for evaluation in evaluations:
        assert f"{100 * evaluation.map:.1f}<small> %</small>" in text
    low, high = (100 * end for end in paired["interval"])
    assert f"{low:+.2f} to {high:+.2f} points" in text and f"p = {paired['p_value']:.3g}" in text
    assert f"<b>{paired['better']:,}</b>" in text and f"<b>{paired['worse']:,}</b>" in text


def test_the_table_has_both_figures_of_every_query(made):
    path, _, evaluations, photos = made
    rows = re.findall(r'<tr data-kind="(\w+)"><th scope="row">(.*?)</th>(.*?)</tr>', path.read_text())
    assert len(rows) == QUERIES
    gains = evaluations[1].ap - evaluations[0].ap
    shown = []
    for kind, name, cells in rows:
        query = photos.queries.ids.index(html.unescape(re.sub(r"<[^>]+>", "", name)))
        values = [float(value) for value in re.findall(r'data-value="([^"]*)"', cells)]
        figures = [gains[query], *(each.ap[query] for each in evaluations)]
        assert values[:3] == pytest.approx(figures, abs=2e-6)
        assert values[3:] == [each.first_relevant_rank[query] for each in evaluations]
        assert kind == ("better" if gains[query] > 0 else "worse" if gains[query] < 0 else "same")
        shown.append(gains[query])
    assert shown == sorted(shown, reverse=True)


def test_the_queries_that_moved_most_are_shown_with_where_each_photo_went(made):
    path, _, evaluations, _ = made
    text = path.read_text()
    gains = evaluations[1].ap - evaluations[0].ap
    order = np.argsort(-gains, kind="stable")
    expected = [row for row in order[:3] if gains[row] > 0] + [row for row in order[::-1][:3] if gains[row] < 0]
    articles = re.findall(r'<article class="strip pair" id="q(\d+)"(.*?)</article>', text, re.DOTALL)
    assert [int(row) for row, _ in articles] == expected
    for row, article in articles:
        lists = re.findall(r'<ol class="results">(.*?)</ol>', article)
        orders = [each.top.order[int(row)].tolist() for each in evaluations]
        for items, own, other, word in zip(lists, orders, orders[::-1], ("now", "was"), strict=True):
            for item, mine, rank in zip(items.split("</li>"), own, range(1, 11), strict=False):
                place = other.index(mine) + 1 if mine in other else None
                said = "" if place == rank else f"{word} {place}" if place else f"{word} &gt;10"
                found = re.search(r'class="move">([^<]*)<', item)
                assert (found[1] if found else "") == said


def test_without_photos_the_page_has_no_strips(made, tmp_path):
    _, found, _, _ = made
    render_comparison(tmp_path / "a.html", found, ComparisonOptions(("a", "b")))
    text = (tmp_path / "a.html").read_text()
    assert "<article" not in text and '<a href="#moved" hidden>' in text and text.count("<tr data-kind") == QUERIES


def test_conditions_stand_side_by_side(made, tmp_path):
    found = dict(made[1])
    found["first"] = {"protocols": {"easy": {"map": 0.5, "queries": 9}, "hard": {"map": None, "queries": 0}}}
    found["second"] = {"protocols": {"easy": {"map": 0.625, "queries": 9}, "hard": {"map": 0.25, "queries": 1}}}
    found["condition"] = "easy"
    render_comparison(tmp_path / "a.html", found, ComparisonOptions(("a", "b")))
    text = (tmp_path / "a.html").read_text()
    assert "<td>50.00 %</td><td>62.50 %</td><td>+12.50 points</td><td>9</td>" in text
    assert "<td>–</td><td>25.00 %</td><td>–</td>" in text and "condition easy" in text


def test_of_very_many_queries_those_that_moved_most_are_listed(made, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison_page, "MAX_ROWS", 6)
    monkeypatch.setattr(comparison_page, "MAX_DOTS", 10)
    render_comparison(tmp_path / "a.html", made[1], ComparisonOptions(("a", "b")))
    text = (tmp_path / "a.html").read_text()
    listed = [float(v) for v in re.findall(r'<td class="\w+" data-value="([^"]*)"', text)]
    gains = [row["difference"] for row in made[1]["per_query"]]
    assert listed == pytest.approx(gains[:3] + gains[-3:], abs=1e-6)
    assert "The 6 of 24 queries that moved most." in text and text.count("<circle") == 10


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_works_in_a_browser(made, browser, width):
    browser.open(made[0].as_uri(), width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("[...document.images].every(image => image.src && image.alt)")
    rows = "[...document.querySelectorAll('#queries-table tbody tr')].filter(row => !row.hidden)"
    select = "document.querySelector('.table-controls select')"
    browser.run(f"{select}.value = 'worse', {select}.dispatchEvent(new Event('input', {{bubbles: true}}))")
    assert browser.run(f"{rows}.length") == made[1]["paired"]["worse"]
    browser.run("document.querySelectorAll('#queries-table button')[1].focus()")
    browser.press("Enter")
    values = browser.run(f"{rows}.map(row => Number(row.cells[1].dataset.value))")
    assert values == sorted(values)
    assert browser.log == []


def test_photos_of_both_results_are_opened(record_set, tmp_path):
    benchmark = Benchmark.load(record_set.directory)
    shape = (len(benchmark.queries), 2)
    for name, rows in (("a", len(benchmark.database)), ("b", len(benchmark.database)), ("c", 10**6)):
        (tmp_path / name).mkdir()
        order = np.full(shape, rows - 1, np.int32)
        ShownRanking(Ranking(order, np.ones(shape, np.float32)), np.ones(shape, bool)).save(tmp_path / name)
    found = comparison_page.compared_photos(tmp_path / "a", tmp_path / "b", benchmark)
    assert list(found.queries.ids) == list(benchmark.queries.ids) and found.database.read(0)[:2] == b"\xff\xd8"
    with pytest.raises(InputError, match=r"rows up to 999,999; a benchmark of"):
        comparison_page.compared_photos(tmp_path / "a", tmp_path / "c", benchmark)


def test_runs_are_called_by_what_differs():
    assert comparison_page.run_names("runs/gem/report", "runs/mac/report") == ("gem", "mac")
    assert comparison_page.run_names("runs/a", "b") == ("a", "b")
    assert comparison_page.run_names("x", "x") == ("x", "x")


def test_rankings_are_read_as_they_were_saved(made, tmp_path):
    evaluation = made[2][0]
    ShownRanking(evaluation.top, evaluation.top_is_relevant).save(tmp_path)
    again = ShownRanking.load(tmp_path)
    for mine, saved in (
        (evaluation.top.order, again.top.order),
        (evaluation.top.similarity, again.top.similarity),
        (evaluation.top_is_relevant, again.top_is_relevant),
    ):
        np.testing.assert_array_equal(mine, saved)
        assert mine.dtype == saved.dtype
    again.check(QUERIES, DATABASE, tmp_path)
    for sizes in ((QUERIES + 1, DATABASE), (QUERIES, int(evaluation.top.order.max()))):
        with pytest.raises(InputError, match="is wanted"):
            again.check(*sizes, tmp_path)


def test_files_that_are_no_ranking_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"top\.npz cannot be read"):
        ShownRanking.load(tmp_path)
    (tmp_path / "top.npz").write_bytes(b"not an archive")
    with pytest.raises(InputError, match="cannot be read"):
        ShownRanking.load(tmp_path)
    order = np.zeros((2, 3), np.int32)
    for arrays in (
        {"order": order, "similarity": order.astype(float)},
        {"order": order, "similarity": order.astype(float), "right": order},
        {"order": order, "similarity": np.zeros((2, 2)), "right": order.astype(bool)},
        {"order": np.array([[{}]]), "similarity": np.zeros((1, 1)), "right": np.zeros((1, 1), bool)},
    ):
        np.savez(tmp_path / "top.npz", **arrays)
        with pytest.raises(InputError, match="cannot be read"):
            ShownRanking.load(tmp_path)
