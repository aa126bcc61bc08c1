import dataclasses
import html
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tfretrieval.errors import InputError
from tfretrieval.evaluation.album import Album, Photos
from tfretrieval.evaluation.descriptor_map import descriptor_map
from tfretrieval.evaluation.evaluate import Evaluation, evaluate, leave_one_out
from tfretrieval.evaluation.relevance import Relevance
from tfretrieval.evaluation.report import ReportOptions, render_report
from tfretrieval.evaluation.story import Section, Table, TrainingCourse, comparison_section

HOSTILE = "<script>alert('x')</script>\"&$title"
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


def make_vectors(seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(QUERIES) % INSTANCES, np.arange(DATABASE) % INSTANCES
    vectors = [np.eye(INSTANCES)[kind] + rng.normal(0, 0.9, (len(kind), INSTANCES)) for kind in labels]
    return labels, [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32) for v in vectors]


def make_evaluation(seed) -> Evaluation:
    labels, vectors = make_vectors(seed)
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
    drawn = descriptor_map(*make_vectors(1)[1])
    options = ReportOptions(f"set {HOSTILE}", 100, (f"note {HOSTILE}",), header, story, map=drawn)
    render_report(path, evaluation, *photos, options)
    return path


def embedded(text):
    return json.loads(re.search(r'id="photo-data">(.*?)</script>', text, re.DOTALL)[1])


def strips(text):
    return re.findall(r'data-ap="([\d.]+)" data-name="([^"]*)"', text)


def test_every_photo_is_embedded_once_and_every_image_has_one(page, evaluation):
    text = page.read_text()
    used = re.findall(r'<img data-photo="(\w+)" alt="([^"]+)"', text)
    assert len(used) == text.count("<img")
    on_map = {key for _, key in json.loads(re.search(r'id="map-data">(.*?)</script>', text)[1])["points"]}
    assert {key for key, _ in used} | on_map == set(embedded(text))
    for prefix, most in (("p", QUERIES + DATABASE), ("m", QUERIES + DATABASE), ("c", 2 * QUERIES)):
        pictures = {key: value for key, value in embedded(text).items() if key.startswith(prefix)}
        assert 0 < len(set(pictures.values())) == len(pictures) <= most
    assert not (page.parent / "strips").exists()


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
    assert text.count("<script") == text.count("</script>") == 3


def test_the_page_refers_to_nothing_outside_of_itself(page):
    text = re.sub(r'id="photo-data">.*?</script>', "", page.read_text())
    assert not re.search(r"https?:|//\w|url\(|@import|<iframe|<object|fetch\(|XMLHttp|<link(?! rel=\"icon)", text)
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
    ranked = text[text.index('<div id="strips">') : text.index('<section id="queries"')]
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
    render_report(tmp_path / "b.html", evaluation, *photos, ReportOptions("none", 0, confusions=0))
    assert embedded((tmp_path / "b.html").read_text()) == {}


def noise_photos(count, instances):
    """Photos of smooth noise, which JPEG compresses little."""
    smooth = np.random.default_rng(0).integers(0, 256, (count, 12, 16, 3), np.uint8)

    def read(row):
        buffer = io.BytesIO()
        Image.fromarray(smooth[row]).resize((128, 96), Image.Resampling.BICUBIC).save(buffer, "JPEG")
        return buffer.getvalue()

    names = [f"instance {n % instances}" for n in range(count)]
    return Photos([f"a folder of photos/photo {n:05d}.jpg" for n in range(count)], names, read)


def many(count, instances, noise):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % instances
    vectors = (rng.normal(size=(instances, 16))[labels] + noise * rng.normal(size=(count, 16))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, leave_one_out(vectors, labels), noise_photos(count, instances)


def test_the_largest_page_without_files_stays_below_15_megabytes(tmp_path):
    vectors, found, shown = many(1000, 50, 9.0)
    options = ReportOptions("large", 250, map=descriptor_map(vectors, vectors, 300))
    render_report(tmp_path / "a.html", found, shown, shown, options)
    text = (tmp_path / "a.html").read_text()
    pictures = embedded(text)
    rest = len(text.encode()) - sum(map(len, pictures.values()))
    assert len(strips(text)) == 300 and rest < 2.5e6
    # The three albums hold at most 10.4 MB of pictures between them; a page of 5,000 has 3 MB more of text.
    assert rest + 10.4e6 < 15e6


@pytest.mark.slow
def test_all_5000_queries_of_5000_photos_make_a_page_below_15_megabytes_with_strips_beside_it(tmp_path, browser):
    vectors, found, shown = many(5000, 200, 2.0)
    options = ReportOptions("large", 5000, map=descriptor_map(vectors, vectors, 3000))
    render_report(tmp_path / "index.html", found, shown, shown, options)
    text = (tmp_path / "index.html").read_text()
    assert (tmp_path / "index.html").stat().st_size < 15e6
    beside = sorted((tmp_path / "strips").glob("index-*.html"))
    listed = [row for path in beside for row in re.findall(r' id="q(\d+)"', path.read_text())]
    assert sorted(map(int, listed + re.findall(r' id="q(\d+)"', text))) == list(range(5000))
    assert len(beside) == 47 and len(re.findall(r'<tr data-kind="\w+"><th scope="row"><a href=', text)) == 5000
    browser.open((tmp_path / "index.html").as_uri(), 390)
    assert browser.run("[...document.images].filter(image => image.complete && image.naturalWidth).length") < 1000
    browser.run("document.getElementById('strips').scrollIntoView()")
    browser.until("[...document.querySelectorAll('.strip img')].slice(0, 6).every(image => image.naturalWidth > 0)")
    browser.open(f"{beside[3].as_uri()}#q{listed[350]}")
    browser.until("document.querySelector(':target img').naturalWidth > 0")
    assert browser.log == []


def test_undefined_numbers_do_not_break_the_page(tmp_path):
    vectors = np.eye(2, dtype=np.float32)
    shown = Photos(["a", "b"], ["a", "b"], photo)
    render_report(tmp_path / "a.html", leave_one_out(vectors, np.array([0, 1])), shown, shown, ReportOptions("none"))
    text = (tmp_path / "a.html").read_text()
    assert "nan" not in re.sub(r"<(style|script).*?</\1>", "", text, flags=re.DOTALL).lower()
    assert "2 queries have no photo of their instance" in text


def test_a_broken_photo_is_named(evaluation, photos, tmp_path):
    broken = Photos(photos[0].ids, photos[0].instances, lambda row: b"not a photo")
    with pytest.raises(InputError, match="cannot be decoded"):
        render_report(tmp_path / "a.html", evaluation, broken, photos[1], ReportOptions("broken"))
    assert not (tmp_path / "a.html").exists()


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"worst is 20001; 0 to 20000 is wanted"):
        ReportOptions("a", 20_001)


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


def test_photos_that_are_not_at_hand_leave_a_place(photos, evaluation, tmp_path):
    nowhere = dataclasses.replace(photos[1], read=lambda row: None if row % 2 else photo(row))
    drawn = descriptor_map(*make_vectors(1)[1])
    render_report(tmp_path / "a.html", evaluation, photos[0], nowhere, ReportOptions("gaps", map=drawn))
    text = (tmp_path / "a.html").read_text()
    gaps = int((evaluation.top.order % 2).sum())
    assert text.count('<span class="missing" role="img"') == gaps and text.count("; no photo") == gaps


def test_sections_without_content_are_hidden(tmp_path):
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    shown = Photos(list("abcd"), list("xxyy"), photo)
    options = ReportOptions("all right", map=descriptor_map(vectors, vectors, 4))
    render_report(tmp_path / "a.html", leave_one_out(vectors, np.array([0, 0, 1, 1])), shown, shown, options)
    text = (tmp_path / "a.html").read_text()
    for name, title in (("confused", "Why confused"), ("map", "Map")):
        assert f'<a href="#{name}" hidden>{title}</a>' in text
    assert '<section id="confused" aria-labelledby="confused-title" hidden>' in text and 'id="map"' not in text


def visible(browser, table="queries-table"):
    rows = f"[...document.getElementById('{table}').tBodies[0].rows].filter(row => !row.hidden)"
    return browser.run(f"{rows}.map(row => [...row.cells].map(cell => cell.innerText.trim()))")


def test_strips_are_filtered_and_sorted_by_the_address(page, browser):
    browser.open(f"{page.as_uri()}#filter=APPLE&sort=best")
    told = "strip => [Number(strip.dataset.ap), strip.dataset.instance, strip.hidden]"
    found = browser.run(f"[...document.querySelectorAll('#strips > article')].map({told})")
    assert len(found) == QUERIES
    assert [ap for ap, _, _ in found] == sorted((ap for ap, _, _ in found), reverse=True)
    assert {instance for _, instance, hidden in found if not hidden} == {"apple"}
    assert browser.run("document.getElementById('count').value") == "3 of 12 strips"
    assert browser.run("[...document.images].every(image => image.src.startsWith('data:image/jpeg;base64,'))")
    assert browser.log == []


def test_the_table_of_queries_sorts_and_filters_by_keyboard(page, browser, evaluation, photos):
    browser.open(page.as_uri())
    assert [row[2] for row in visible(browser)] == [f"{ap:.3f}" for ap in np.sort(evaluation.ap)]
    browser.run("document.querySelectorAll('#queries-table button')[2].focus()")
    browser.press("Enter")
    assert [row[2] for row in visible(browser)] == [f"{ap:.3f}" for ap in np.sort(evaluation.ap)[::-1]]
    heading = "document.querySelectorAll('#queries-table thead th')[{}].ariaSort"
    assert browser.run(heading.format(2)) == "descending"
    browser.press("Tab")
    browser.press("Tab")
    browser.press("Enter")
    assert [int(row[4]) for row in visible(browser)] == sorted(evaluation.first_relevant_rank.tolist())
    assert browser.run(heading.format(4)) == "ascending" and browser.run(heading.format(2)) is None
    browser.run("document.querySelector('.table-controls input').focus()")
    browser.type("cherry")
    names = [row[1] for row in visible(browser)]
    assert names == ["cherry"] * photos[0].instances.count("cherry")
    assert browser.run("document.querySelector('.table-controls output').value") == f"{len(names)} of {QUERIES} rows"
    browser.run("document.querySelector('.table-controls').reset()")
    kind = "document.querySelector('.table-controls select')"
    browser.run(f"{kind}.value = 'wrong', {kind}.dispatchEvent(new Event('input', {{bubbles: true}}))")
    assert len(visible(browser)) == int((evaluation.first_relevant_rank != 1).sum())
    assert browser.log == []


def test_a_query_of_the_table_leads_to_its_strip(page, browser):
    browser.open(page.as_uri())
    browser.run("document.getElementById('filter').value = 'nothing is named so'")
    browser.run("document.getElementById('filter').dispatchEvent(new Event('input'))")
    browser.run("document.querySelector('#queries-table tbody a').focus()")
    name = browser.run("document.activeElement.textContent")
    browser.press("Enter")
    browser.until("document.activeElement.matches('article.strip')")
    assert browser.run("document.activeElement.dataset.name") == name
    top = browser.run("document.activeElement.getBoundingClientRect().top")
    assert 0 <= top < 200
    assert browser.log == []


def test_the_map_shows_photos_by_mouse_and_by_keyboard(page, browser):
    browser.open(page.as_uri())
    browser.run("document.getElementById('map').scrollIntoView()")
    place = "(() => {{ const b = document.querySelectorAll('#plane > svg > *')[{}].getBoundingClientRect();"
    place += " return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
    browser.point(*browser.run(place.format(4)))
    assert browser.run("!document.getElementById('pointed').hidden")
    assert browser.run("document.querySelector('#pointed img').src.startsWith('data:image/jpeg')")
    assert browser.run("document.getElementById('map-said').textContent").startswith(
        "apple – database photo, apple/photo"
    )
    same = browser.run("document.querySelectorAll('#plane .same').length")
    assert same == (QUERIES + DATABASE + 2) // INSTANCES - 1
    browser.point(5, 5)
    assert browser.run("document.getElementById('pointed').hidden")
    browser.run("document.getElementById('plane').focus()")
    browser.press("ArrowRight")
    first = browser.run("document.getElementById('map-said').textContent")
    seen = {first}
    for key in ("ArrowLeft", "ArrowUp", "ArrowDown", "ArrowRight", "ArrowDown", "ArrowLeft"):
        browser.press(key)
        seen.add(browser.run("document.getElementById('map-said').textContent"))
    assert len(seen) >= 4 and browser.run("document.querySelectorAll('#plane .here').length") == 1
    browser.press("Escape")
    assert browser.run("document.getElementById('pointed').hidden")
    assert browser.log == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window_in_light_and_dark(page, browser, width, dark):
    browser.open(page.as_uri(), width, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("[...document.images].every(image => image.alt !== '')")
    luminance = "getComputedStyle(document.body).{}.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0)"
    ground, ink = (browser.run(luminance.format(name)) for name in ("backgroundColor", "color"))
    assert (ground < 150 < 600 < ink) if dark else (ink < 150 < 600 < ground)
    assert browser.log == []
