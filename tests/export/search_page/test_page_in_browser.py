"""The page in headless Chromium: upload, box, results, why, the index, keys, and an error for a broken file."""

import json

import numpy as np
import pytest
from PIL import Image

from export.search_page import PageServer, PageSettings, PhotoIndex, SearchPage
from export.search_page.api import PageApi
from export.search_page.photo_sources import from_folder
from tfretrieval.descriptors import Descriptors

STATUS = "document.getElementById('status').textContent"
IDS = "[...document.querySelectorAll('#hits .frame')].map((each) => each.title)"
FOUND = "document.querySelectorAll('#hits li').length > 0 && !document.body.classList.contains('searching')"


def choose(browser, path):
    """Gives a file to the page's input, as its dialog would."""
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


def drag(browser, *places):
    """Presses the mouse on the photo, moves it over places in shares of the photo, and releases it."""
    browser.until("document.getElementById('photo').naturalWidth > 0")
    area = browser.run("(({left, top, width, height}) => [left, top, width, height])(photo.getBoundingClientRect())")
    points = [(area[0] + x * area[2], area[1] + y * area[3]) for x, y in places]
    kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
    for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


def open_page(browser, site, width=1280, dark=False, place=""):
    browser.open(site.page.url + place, width, 900, dark)
    browser.until("document.querySelectorAll('#tiles li').length > 0")


def ranked(site, path):
    return [result["id"] for result in site.json(path)[1]["results"]]


def test_a_photo_is_chosen_boxed_and_explained(site, browser):
    open_page(browser, site)
    assert browser.run("document.getElementById('about').textContent").startswith("30 photos, searched as wholes · 48")
    choose(browser, site.folder / site.index.ids[7])
    browser.until(FOUND)
    whole = [result["id"] for result in site.json("/api/search", site.file(7))[1]["results"]]
    assert browser.run(IDS) == whole[:24] and whole[0] == site.index.ids[7]
    assert browser.run(STATUS).startswith("The 28 most similar photos of 30, by the whole photo, in ")
    assert browser.run("document.querySelector('#hits .frame').ariaLabel") == "Result 1: bridge, similarity 1.000. Why?"
    browser.run("document.getElementById('more').click()")
    assert browser.run(IDS) == whole
    site.server.asked.clear()
    drag(browser, (0.25, 0.25), (0.5, 0.5), (0.75, 1.0))
    browser.until(f"{STATUS}.includes('in the box')")
    width, height = Image.open(site.folder / site.index.ids[7]).size
    ((left, top, right, bottom),) = site.server.asked
    wanted = (width / 4, height / 4, 3 * width / 4, height)
    assert all(abs(one - other) <= 1.5 for one, other in zip((left, top, right, bottom), wanted, strict=True))
    boxed = browser.run(IDS)
    assert boxed != whole[:24]
    browser.run("document.querySelector('#hits .frame').click()")
    browser.until("document.querySelectorAll('#why[open] svg image').length === 2")
    browser.until("document.getElementById('why-status').textContent.startsWith('Similarity ')")
    assert browser.run("document.getElementById('why-title').textContent").startswith("Result 1: ")
    assert browser.run("document.querySelectorAll('#why .boxes .marked').length") == 1
    browser.press("Escape")
    browser.until("!document.getElementById('why').open")
    browser.run("document.getElementById('whole').click()")
    browser.until(f"{STATUS}.includes('by the whole photo')")
    assert browser.run(IDS) == whole[:24]
    assert browser.log == []


def test_a_broken_file_and_a_server_that_is_away_are_told(site, browser, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(site.file(0)[:200])
    open_page(browser, site)
    problem = "document.getElementById('problem')"
    assert browser.run(f"{problem}.hidden")
    choose(browser, tmp_path / "broken.jpg")
    browser.until(f"!{problem}.hidden")
    assert browser.run(f"{problem}.textContent") in (
        "The file is not a photo; JPEG, PNG, WebP, GIF or BMP is wanted.",
        site.json("/api/search", site.file(0)[:200])[1]["error"],
    )
    assert browser.run(f"{problem}.role || {problem}.getAttribute('role')") == "alert"
    assert browser.run("document.querySelectorAll('#hits li').length") == 0
    choose(browser, site.folder / site.index.ids[3])
    browser.until(FOUND)
    assert browser.run(f"{problem}.hidden")
    # Chromium itself notes the answer's status; the page's own scripts had no error.
    assert [line for line in browser.log if "status of 400" not in line] == []


def test_the_index_is_browsed_and_searched_by_keys(site, browser):
    open_page(browser, site)
    assert browser.run("document.querySelectorAll('#tiles li').length") == 30
    browser.run("document.getElementById('text').focus()")
    browser.type("gate")
    browser.until("document.querySelectorAll('#tiles li').length === 5")
    assert browser.run("document.getElementById('listed').value") == "5 photos"
    browser.press("Tab")
    browser.press("Enter")
    browser.until(FOUND)
    row = site.index.ids.index("old town/gate/photo_0.jpg")
    assert browser.run("location.hash") == f"#photo={row}"
    assert browser.run(IDS) == ranked(site, f"/api/search?photo={row}")[:24]
    assert browser.run("document.activeElement.id") == "results-title"
    # A box by keys: drawn, moved, sized, searched with, and removed.
    browser.run("document.getElementById('board').focus()")
    browser.press("Enter")
    browser.until(f"{STATUS}.includes('in the box')")
    said = "document.getElementById('board-said').textContent"
    assert browser.run(said) == "Box: 25% to 75% across, 25% to 75% down"
    browser.press("ArrowLeft")
    browser.press("ArrowDown")
    assert browser.run(said) == "Box: 23% to 73% across, 27% to 77% down"
    browser.press("Escape")
    browser.until(f"{STATUS}.includes('by the whole photo')")
    assert browser.run(said) == "The whole photo"
    browser.run("document.querySelectorAll('.again')[2].click()")
    other = site.index.ids.index(ranked(site, f"/api/search?photo={row}")[2])
    browser.until(f"location.hash === '#photo={other}'")
    browser.run("history.back()")
    browser.until(f"location.hash === '#photo={row}' && {FOUND}")
    assert browser.log == []


@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False)])
def test_nothing_sticks_out_and_everything_has_a_name(site, browser, width, dark):
    open_page(browser, site, width, dark, "#photo=12")
    browser.until(FOUND)
    assert browser.run("document.documentElement.scrollWidth") == width
    nameless = browser.run(
        "[...document.querySelectorAll('button, input, [role=img]')]"
        ".filter((each) => !(each.ariaLabel || each.textContent.trim() || each.labels?.length)).length"
    )
    assert nameless == 0
    assert browser.run("[...document.images].every((image) => image.hasAttribute('alt'))")
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, json.loads(ground.replace("rgb(", "[").replace(")", "]")))) < 80) == dark
    browser.run("document.querySelector('#hits .frame').click()")
    browser.until("document.getElementById('why-status').textContent.startsWith('Similarity ')")
    area = browser.run("(({left, right}) => [left, right])(document.getElementById('why').getBoundingClientRect())")
    assert area[0] >= 0 and area[1] <= width
    assert browser.log == []


def test_no_id_becomes_markup(site, browser, tmp_path):
    hostile = "<img src=x onerror=document.title='hit'>&amp;\".png"
    Image.new("RGB", (40, 30), (200, 30, 30)).save(tmp_path / hostile)
    Image.new("RGB", (40, 30), (20, 130, 30)).save(tmp_path / "b.png")
    vectors = site.index.set_of(0).vectors, site.index.set_of(9).vectors
    index = PhotoIndex(Descriptors(vectors=_rows(vectors), ids=("b.png", hostile, "gone.png")), "<b>index</b>")
    page = SearchPage(index, from_folder(tmp_path, index.ids), site.server)
    with PageServer(PageApi(page), PageSettings(port=0)) as server:
        browser.open(server.url + "#photo=0")
        browser.until(FOUND)
        assert set(browser.run(IDS)) == {hostile, "gone.png"}
        assert "<b>index</b>" in browser.run("document.getElementById('about').textContent")
        browser.until("document.querySelectorAll('#hits .missing').length === 1")
        assert browser.run("document.title") == "Search by photo"
        assert browser.run("document.querySelectorAll('img[src=x], #about b').length") == 0


def _rows(vectors):
    return np.concatenate([*vectors, (vectors[0] + vectors[1]) / np.linalg.norm(vectors[0] + vectors[1])])
