import html
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from tfretrieval.errors import InputError
from tfretrieval.evaluation import charts
from tfretrieval.evaluation.album import Album, Photos
from tfretrieval.evaluation.evaluate import Evaluation, evaluate, leave_one_out
from tfretrieval.evaluation.relevance import Relevance
from tfretrieval.evaluation.report import ReportOptions, render_report
from tfretrieval.evaluation.story import Section, Table, TrainingCourse, comparison_section

HOSTILE = "<script>alert('x')</script>\"&$title"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DATABASE, QUERIES, INSTANCES = 30, 12, 4


def photo(number):
    image = Image.fromarray(np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def make_photos(count, offset, names):
    ids = [f"{names[n % INSTANCES]}/photo {offset + n:03d}.jpg" for n in range(count)]
    return Photos(ids, [names[n % INSTANCES] for n in range(count)], lambda row: photo(offset + row))


@pytest.fixture(scope="module")
def photos():
    names = ["apple", "banana_long", HOSTILE, "cherry"]
    return make_photos(QUERIES, 0, names), make_photos(DATABASE, QUERIES, names)


def make_evaluation(seed) -> Evaluation:
    rng = np.random.default_rng(seed)
    labels = np.arange(QUERIES) % INSTANCES, np.arange(DATABASE) % INSTANCES
    vectors = [np.eye(INSTANCES)[kind] + rng.normal(0, 0.9, (len(kind), INSTANCES)) for kind in labels]
    vectors = [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32) for v in vectors]
    return evaluate(*vectors, Relevance.by_instance(*labels))


@pytest.fixture(scope="module")
def evaluation():
    return make_evaluation(1)


@pytest.fixture(scope="module")
def page(photos, evaluation, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    story = (
        comparison_section(("untrained", "trained"), (make_evaluation(7), evaluation), *photos, shown=2),
        Section("Training", HOSTILE, (TrainingCourse([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4}]),)),
        Section("Served", blocks=(Table(("Check", HOSTILE), ((HOSTILE, "0.1"),)),)),
    )
    header = {"flags": {"queries": HOSTILE}, "seed": None, "protocol": {"image_size": {"queries": 64}}}
    options = ReportOptions(f"set {HOSTILE}", 100, (f"note {HOSTILE}",), header, story)
    render_report(path, evaluation, *photos, options)
    return path


def embedded(text):
    return json.loads(re.search(r'id="photo-data">(.*?)</script>', text, re.DOTALL)[1])


def strips(text):
    return re.findall(r'data-ap="([\d.]+)" data-name="([^"]*)"', text)


def test_every_photo_is_embedded_once_and_every_image_has_one(page, evaluation):
    text = page.read_text()
    pictures = embedded(text)
    assert len(set(pictures.values())) == len(pictures)
    used = re.findall(r'<img data-photo="(\w+)" alt="([^"]+)"', text)
    assert {key for key, _ in used} == set(pictures)
    assert len(used) == text.count("<img") > len(pictures)
    assert len(pictures) <= QUERIES + DATABASE
    assert text.count(next(iter(pictures.values()))) == 1


def test_equal_photos_in_both_splits_are_embedded_once(photos):
    album = Album(32)
    again = Photos(photos[0].ids, photos[0].instances, photos[0].read)
    assert album.image(photos[0], 3, "a") == album.image(again, 3, "a")
    assert len(album) == 1


def test_thumbnails_are_small_jpegs_that_keep_their_shape(photos):
    import base64

    album = Album(40)
    album.image(photos[0], 0, "a")
    image = Image.open(io.BytesIO(base64.b64decode(json.loads(album.json())["p0"])))
    assert (image.format, image.size) == ("JPEG", (40, 30))


def test_hostile_names_are_escaped_everywhere(page):
    text = page.read_text()
    assert "<script>alert" not in text
    assert html.escape(HOSTILE) in text
    assert text.count("<script") == 2


def test_the_page_refers_to_nothing_outside_of_itself(page):
    text = page.read_text()
    assert not re.search(
        r"https?:|//\w|url\(|@import|<iframe|<object", re.sub(r'id="photo-data">.*?</script>', "", text)
    )
    assert all(link.startswith(("#", "data:,")) for link in re.findall(r'(?:href|src)="([^"]*)"', text))
    assert "default-src 'none'" in text


def test_the_worst_query_stands_first(page, evaluation, photos):
    shown = strips(page.read_text())
    aps = [float(ap) for ap, _ in shown]
    assert len(shown) == QUERIES
    assert aps == sorted(aps)
    assert html.unescape(shown[0][1]) == photos[0].ids[int(evaluation.worst_first()[0])]


def test_numbers_and_the_summary_stand_on_the_page(page, evaluation):
    text = page.read_text()
    first = int((evaluation.first_relevant_rank == 1).sum())
    assert f"For <b>{first} of {QUERIES}</b> photos, the first result shows the same thing." in text
    for value in (evaluation.map, *evaluation.recall_at.values()):
        assert f"{100 * value:.1f}<small> %</small>" in text


def test_marks_say_what_the_colours_say(page, evaluation):
    text = page.read_text()
    right = int(evaluation.top_is_relevant.sum())
    ranked = text[text.index('<div id="strips">') : text.index('<section id="instances"')]
    assert ranked.count('<li class="right">') == right == ranked.count("✓") == ranked.count(", right: ")
    assert ranked.count('<li class="wrong">') == ranked.count("✗") == ranked.count(", wrong: ")


def test_a_comparison_shows_one_that_lost_where_any_lost(photos, evaluation):
    before = make_evaluation(7)
    section = comparison_section(("old", "new"), (before, evaluation), *photos, shown=2)
    rows = section.blocks[1].rows
    gain = evaluation.ap - before.ap
    assert gain[rows[0]] == gain.max()
    assert gain[rows[-1]] == gain.min() < 0
    assert "lost most" in section.text


def test_few_of_many_queries_are_shown(photos, evaluation, tmp_path):
    render_report(tmp_path / "a.html", evaluation, *photos, ReportOptions("few", 5))
    text = (tmp_path / "a.html").read_text()
    aps = [float(ap) for ap, _ in strips(text)]
    expected = np.sort(evaluation.ap)
    assert aps == pytest.approx([*expected[:5], expected[-1]], abs=1e-6)
    assert "The 5 worst and the 1 best of 12 queries" in text
    render_report(tmp_path / "b.html", evaluation, *photos, ReportOptions("none", 0))
    assert embedded((tmp_path / "b.html").read_text()) == {}


def test_the_largest_page_stays_below_15_megabytes(tmp_path):
    # 250 worst and 50 best with ten results each, every photo of noise, which JPEG compresses worst.
    count = 1000
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    found = leave_one_out(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.arange(count) % 50)
    smooth = rng.integers(0, 256, (count, 12, 16, 3), np.uint8)

    def read(row):
        buffer = io.BytesIO()
        Image.fromarray(smooth[row]).resize((128, 96), Image.Resampling.BICUBIC).save(buffer, "JPEG")
        return buffer.getvalue()

    shown = Photos([str(n) for n in range(count)], ["x"] * count, read)
    render_report(tmp_path / "a.html", found, shown, shown, ReportOptions("large", 250))
    pictures = embedded((tmp_path / "a.html").read_text())
    largest = 300 * 11 * max(map(len, pictures.values()))
    rest = (tmp_path / "a.html").stat().st_size - sum(map(len, pictures.values()))
    assert largest + rest < 15e6


def test_undefined_numbers_do_not_break_the_page(tmp_path):
    vectors = np.eye(2, dtype=np.float32)
    shown = Photos(["a", "b"], ["a", "b"], photo)
    render_report(tmp_path / "a.html", leave_one_out(vectors, np.array([0, 1])), shown, shown, ReportOptions("none"))
    text = (tmp_path / "a.html").read_text()
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL).lower()
    assert "2 queries have no photo of their instance" in text


def test_a_broken_photo_is_named(evaluation, photos, tmp_path):
    broken = Photos(photos[0].ids, photos[0].instances, lambda row: b"not a photo")
    with pytest.raises(InputError, match="cannot be decoded"):
        render_report(tmp_path / "a.html", evaluation, broken, photos[1], ReportOptions("broken"))
    assert not (tmp_path / "a.html").exists()


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="worst is 251"):
        ReportOptions("a", 251)


@pytest.mark.parametrize(("highest", "last"), [(1, 1), (7, 7), (100, 100), (120, 120)])
def test_count_ticks_end_at_the_highest(highest, last):
    ticks = [value for value, _ in charts.count_ticks(highest)]
    assert (ticks[0], ticks[-1]) == (1, last)
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize("highest", [0, 1e-6, 0.07, 1, 13, 999, 1e7])
def test_linear_ticks_reach_the_highest(highest):
    ticks = [value for value, _ in charts.linear_ticks(highest)]
    assert ticks[0] == 0
    assert ticks[-1] >= highest * (1 - 1e-6)
    assert 2 <= len(ticks) <= 6


def browse(url, profile):
    """Loads a page in Chromium and returns its document and its log."""
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=2000 --dump-dom"
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={profile}", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to open the page with")
def test_the_page_works_in_a_browser(page, tmp_path):
    dom, log = browse(f"{page.as_uri()}#filter=APPLE&sort=best", tmp_path)
    assert "CONSOLE" not in log
    assert not re.search(r"<img(?![^>]* src=\"data:image/jpeg;base64,)", dom)
    body = dom[dom.index('id="strips"') :]
    found = re.findall(r'<article class="strip" data-ap="([\d.]+)" [^>]*data-instance="([^"]*)"([^>]*)>', body)
    assert len(found) == QUERIES
    aps = [float(ap) for ap, _, _ in found]
    assert aps == sorted(aps, reverse=True)
    assert {instance for _, instance, rest in found if "hidden" not in rest} == {"apple"}


def test_the_smallest_database_and_trainings_make_a_page(tmp_path):
    vectors = np.eye(1, dtype=np.float32)
    found = evaluate(vectors, vectors, Relevance.by_instance(np.array([0]), np.array([0])))
    shown = Photos(["a"], ["a"], photo)
    trainings = [
        [],
        [{"epoch": 1, "loss": 0.0, "validation_map": None}],
        [{"epoch": 3, "loss": 1, "validation_map": 1}],
    ]
    story = tuple(Section("Training", blocks=(TrainingCourse(history),)) for history in trainings)
    render_report(tmp_path / "a.html", found, shown, shown, ReportOptions("one", story=story))
    text = (tmp_path / "a.html").read_text()
    assert "For <b>1 of 1</b> photos" in text
    assert len(embedded(text)) == 1
    assert text.count("Validation mAP</figcaption>") == 1
