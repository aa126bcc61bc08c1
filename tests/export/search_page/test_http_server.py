"""The page's answers over HTTP: what is found, what is refused with which status, and what no answer lets through."""

import io
import json
import re
import socket
import threading
import time

import grpc
import numpy as np
import pytest
from PIL import Image

from export.client import ServingError
from export.search_page import PageError, PageServer, PageSettings, SearchPage, http_server
from export.search_page.api import PageApi
from export.search_page.model_server import ModelServer
from tfretrieval.errors import InputError


def vectors_of(site):
    return np.stack([site.index.set_of(row).vectors[0] for row in range(len(site.index))])


def test_the_page_comes_with_all_it_needs_and_asks_no_other_site(site):
    status, headers, page = site.ask("GET", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    seen, waiting = {"/": page.decode()}, re.findall(r'(?:src|href)="([\w.]+)"', page.decode())
    while waiting:
        name = waiting.pop()
        if name not in seen:
            status, headers, text = site.ask("GET", f"/{name}")
            assert status == 200, name
            assert headers["Content-Type"].startswith({"css": "text/css", "js": "text/javascript"}[name.split(".")[-1]])
            assert headers["X-Content-Type-Options"] == "nosniff"
            seen[name] = text.decode()
            waiting += re.findall(r'from "\./([\w.]+)"', seen[name])
    assert {"page.js", "dom.js", "box.js", "results.js", "why.js", "browser.js", "page.css", "report.css"} < set(seen)
    for name, text in seen.items():
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[\w./]*", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, name
        assert not re.search(r"\beval\(|innerHTML|insertAdjacentHTML|new Function", text), name


def test_a_photo_is_ranked_as_by_its_definition(site):
    status, found = site.json("/api/search", site.file(7))
    similarity = vectors_of(site) @ vectors_of(site)[7]
    order = sorted(range(30), key=lambda row: (-similarity[row], row))[:28]
    assert status == 200
    assert [result["row"] for result in found["results"]] == order
    np.testing.assert_allclose([result["score"] for result in found["results"]], similarity[order], atol=1e-4)
    first = found["results"][0]
    assert (first["id"], first["name"], found["by"]) == (site.index.ids[7], "bridge", "photo")
    assert site.server.asked == [None]


def test_an_indexed_photo_is_searched_with_its_own_descriptor_and_not_found_itself(site):
    status, found = site.json("/api/search?photo=7")
    assert status == 200 and not site.server.asked
    similarity = vectors_of(site) @ vectors_of(site)[7]
    order = [row for row in sorted(range(30), key=lambda row: (-similarity[row], row)) if row != 7][:28]
    assert [result["row"] for result in found["results"]] == order
    assert found["query"]["id"] == site.index.ids[7]


@pytest.mark.parametrize("by", ["file", "row"])
def test_a_box_reaches_the_server_in_pixels(site, by):
    width, height = Image.open(io.BytesIO(site.file(3))).size
    path, body = ("/api/search?", site.file(3)) if by == "file" else ("/api/search?photo=3&", None)
    status, found = site.json(f"{path}box=0.25,0.5,0.75,1", body)
    assert (status, found["by"]) == (200, "box")
    assert site.server.asked == [(width // 4, height // 2, 3 * width // 4, height)]
    # What is told for a tiny box at the far corner is still a pixel.
    assert site.json(f"{path}box=0.99999,0.99999,1,1", body)[0] in (200, 400)
    assert site.server.asked[-1] == (width - 1, height - 1, width, height)


def test_a_turned_photo_has_its_box_where_it_is_seen(site):
    image = Image.new("RGB", (60, 20), (200, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    site.json("/api/search?box=0,0.5,1,1", buffer.getvalue())
    assert site.server.asked == [(0, 30, 20, 60)]


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/api/search", b"", 400, "The file is empty; a photo is wanted."),
        ("/api/search", b"no photo", 400, "The file is not a photo; JPEG, PNG, WebP, GIF or BMP is wanted."),
        ("/api/search", None, 400, "Either a photo or the number of an indexed photo is wanted."),
        ("/api/search?photo=1", b"both", 400, "Either a photo or"),
        ("/api/search?photo=30", None, 404, "There is no photo 30; the index has 30, from 0 on."),
        ("/api/search?photo=-1", None, 400, "photo is -1; a whole number from 0 on is wanted."),
        ("/api/search?photo=²", None, 400, "photo is ²"),
        ("/api/search?photo=1&box=0,0,1", None, 400, "box is '0,0,1'; left,top,right,bottom as shares is wanted."),
        ("/api/search?photo=1&box=0,0,nan,1", None, 400, "The box is not left, top, right, bottom in shares"),
        ("/api/search?photo=1&box=0.5,0,0.5,1", None, 400, "The box is not"),
        ("/api/search?photo=1&box=-1,0,1,1", None, 400, "The box is not"),
        ("/api/why?photo=1", None, 400, "result is missing"),
        ("/api/why?photo=1&result=99", None, 404, "There is no photo 99"),
        ("/api/photos?count=201", None, 400, "count is 201; at most 200 is wanted."),
        ("/api/photos?from=" + "9" * 40, None, 400, "from is 999"),
        ("/api/photos?text=%ff", None, 400, "The address cannot be read."),
        ("/api/nothing", None, 404, "There is nothing at this address."),
        ("/../../etc/passwd", None, 404, "There is nothing"),
        ("/thumbnails/../page.html", None, 404, "There is nothing"),
        ("/thumbnails/%2e%2e%2fpage.html", None, 404, "There is nothing"),
        ("/photos/1e3.jpg", None, 404, "There is nothing"),
        ("/photos/30.jpg", None, 404, "There is no photo 30"),
        ("/page.py", None, 404, "There is nothing"),
        ("/", b"x", 405, "POST is not answered at this address."),
        ("/api/photos", b"x", 405, "POST is not answered"),
        (
            "/api/search",
            b"\x89PNG" * 30_000,
            413,
            "The photo has 120,000 bytes, more than the 100,000 that are accepted.",
        ),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence_with_its_status(site, path, body, status, told):
    path = path.replace("²", "%C2%B2")
    found, answer = site.json(path, body)
    assert (found, answer["error"][: len(told)]) == (status, told)
    assert answer["error"].endswith(".") and set(answer) == {"error"}
    assert not site.server.asked


def test_a_photo_that_only_its_data_breaks_is_refused(site):
    status, answer = site.json("/api/search", site.file(0)[: 3 * len(site.file(0)) // 4])
    assert status == 400 and answer["error"].startswith("The photo is broken: ")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(site, method):
    status, headers, _ = site.ask(method, "/api/search")
    assert (status, headers["Allow"]) == (405, "GET, HEAD, POST")
    assert "Access-Control-Allow-Origin" not in headers


def test_a_body_without_a_length_is_refused(site):
    status, _, answer = site.ask("POST", "/api/search", iter([b"abc"]))
    assert status == 411 and json.loads(answer)["error"] == "A photo with a Content-Length is wanted."


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1", "0.0.0.0"])
def test_a_name_that_only_leads_to_this_machine_is_not_answered(site, host):
    assert site.json("/api/photos", Host=host)[0] == 403
    assert site.ask("GET", "/", Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8600", "127.0.0.1:1", "[::1]:5"])
def test_this_machine_is_answered_by_each_of_its_names(site, host):
    assert site.json("/api/photos", Host=host)[0] == 200


@pytest.mark.parametrize("sender", ["cross-site", "same-site"])
def test_pages_of_other_sites_are_not_answered(site, sender):
    assert site.json("/api/search?photo=1", Sec_Fetch_Site=sender)[0] == 403
    assert site.ask("GET", "/photos/1.jpg", Sec_Fetch_Site=sender)[0] == 403
    assert site.ask("GET", "/", Sec_Fetch_Site=sender)[0] == 200  # a link to the page
    assert site.json("/api/search?photo=1", Sec_Fetch_Site="same-origin")[0] == 200


def test_pictures_are_upright_and_bounded(site):
    for path, most in (("/thumbnails/4.jpg?v=1", 320), ("/photos/4.jpg", 1600)):
        status, headers, picture = site.ask("GET", path)
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        assert "immutable" in headers["Cache-Control"]
        image = Image.open(io.BytesIO(picture))
        assert image.size == Image.open(io.BytesIO(site.file(4))).size and max(image.size) <= most
    assert site.ask("HEAD", "/thumbnails/4.jpg")[2] == b""


def test_the_index_is_listed_and_found_by_its_names(site):
    assert site.json("/api/photos?from=28&count=5")[1] == {
        "total": 30,
        "photos": [{"row": row, "id": site.index.ids[row], "name": "old town/tower"} for row in (28, 29)],
    }
    found = site.json("/api/photos?text=%20TOWN/gate/photo_1")[1]
    assert [photo["id"] for photo in found["photos"]] == ["old town/gate/photo_1.png"]
    assert site.json("/api/photos?text=castle&from=3&count=1")[1]["total"] == 5
    assert site.json("/api/photos?text=nothing")[1] == {"total": 0, "photos": []}
    about = site.json("/api/about")[1]
    assert (about["photos"], about["dimension"], about["objects"]) == (30, 48, False)


def test_the_servers_troubles_are_the_answers(site):
    site.server.error = PageError(503, "The server is away.")
    assert site.json("/api/search", site.file(1)) == (503, {"error": "The server is away."})
    assert site.json("/api/server") == (503, {"error": "The server is away."})
    assert site.json("/api/search?photo=1")[0] == 200  # its descriptor is in the index
    site.server.error = RuntimeError("secret")
    status, answer = site.json("/api/search", site.file(1))
    assert status == 500 and "secret" not in answer["error"]
    site.server.error = None
    assert site.json("/api/server") == (200, {"image_size": 64})


def test_why_tells_places_inside_the_box(site):
    status, told = site.json("/api/why?photo=2&result=3&box=0.5,0.5,1,1")
    assert status == 200 and set(told) == {"places"}
    assert all(x >= 0.5 and y >= 0.5 for x, y, *_ in told["places"]["lines"])


def test_connections_are_kept_and_broken_requests_do_not_end_the_server(site):
    with socket.create_connection(("127.0.0.1", site.page.server_port), 10) as raw:
        for _ in range(2):
            raw.sendall(b"GET /api/about HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert raw.recv(65536).startswith(b"HTTP/1.1 200 ")
        raw.sendall(b"GET / HTTP/nonsense\r\n\r\n")
        assert b" 400 " in raw.recv(65536).split(b"\r\n")[0]
    with socket.create_connection(("127.0.0.1", site.page.server_port), 10) as raw:
        raw.sendall(b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nabc")
    assert site.json("/api/about")[0] == 200


class Slow(SearchPage):
    """Answers searches when it is let."""

    def __init__(self):
        self.may_go, self.begun = threading.Event(), threading.Semaphore(0)

    def search(self, query):
        self.begun.release()
        self.may_go.wait(20)
        return {"results": []}


def test_photos_wait_for_a_turn_and_a_stop_waits_for_them(monkeypatch, site):
    monkeypatch.setattr(http_server, "PHOTOS_AT_A_TIME", 1)
    monkeypatch.setattr(http_server, "_WAIT", 0.05)
    slow, answers = Slow(), []
    server = PageServer(PageApi(slow), PageSettings(port=0))
    mine = type(site)(server, None, site.index, site.folder)
    with server:
        asking = threading.Thread(target=lambda: answers.append(mine.json("/api/search", b"photo")))
        asking.start()
        assert slow.begun.acquire(timeout=10)
        status, told = mine.json("/api/search", b"another")
        assert (status, told["error"]) == (503, "Too many photos are being searched with; try again.")
        threading.Timer(0.3, slow.may_go.set).start()
        start = time.monotonic()
    assert time.monotonic() - start > 0.2
    asking.join()
    assert answers == [(200, {"results": []})]
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.server_port), 1)


def test_an_address_in_use_is_told(site):
    with pytest.raises(InputError, match=f"--port={site.page.server_port} cannot be listened on: "):
        PageServer(PageApi(Slow()), PageSettings(port=site.page.server_port))


@pytest.mark.parametrize("given", [{"port": -1}, {"port": 65536}, {"max_bytes": 0}, {"results": 0}])
def test_settings_out_of_range_are_refused(given):
    with pytest.raises(InputError, match=f"--{next(iter(given))}="):
        PageSettings(**given)


def test_statuses_of_the_model_server_have_sentences():
    server = ModelServer("127.0.0.1:9")
    told = {
        code: server._told(ServingError(code, "image_bytes[0]: too dark. (127.0.0.1:9)\nnode x"))
        for code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.NOT_FOUND)
    }
    server.close()
    assert [(error.status, error.message) for error in told.values()] == [
        (400, "The server refused the photo: too dark."),
        (504, "The server 127.0.0.1:9 did not answer within 30 seconds."),
        (502, "The server 127.0.0.1:9 cannot describe the photo: too dark."),
    ]
