"""A page over an index of small photos, whose model server is a function of this process, and a browser to open it."""

import dataclasses
import http.client
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.search_page import PageServer, PageSettings, PhotoIndex, SearchPage, pictures
from export.search_page.api import PageApi
from export.search_page.model_server import Described
from export.search_page.photo_sources import from_folder
from tfretrieval.descriptors import Descriptors


def describe(image):
    """Sixteen mean colours, float32 [48], of length 1 and apart from those of other photos."""
    colours = np.asarray(image.convert("RGB").resize((4, 4), Image.Resampling.BOX), np.float32).ravel()
    colours -= colours.mean()
    return colours / np.linalg.norm(colours)


class FakeServer:
    """Describes in this process; `error` is raised where it is set, and `asked` keeps the boxes."""

    address = "127.0.0.1:1"

    def __init__(self):
        self.error, self.asked = None, []

    def describe(self, photo, box, index):
        self.asked.append(box)
        if self.error:
            raise self.error
        image = pictures.upright(photo)
        return Described(describe(image if box is None else image.crop(tuple(map(int, box)))))

    def check(self, index):
        if self.error:
            raise self.error
        return {"image_size": 64}


@dataclasses.dataclass
class Site:
    """A running page and what is behind it."""

    page: PageServer
    server: FakeServer
    index: PhotoIndex
    folder: Path

    def ask(self, method, path, body=None, **headers):
        """Returns status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.page.server_port, timeout=20)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, path, body=None, **headers):
        """Returns status and value of an answer."""
        status, _, text = self.ask("GET" if body is None else "POST", path, body, **headers)
        return status, json.loads(text)

    def file(self, row):
        """Returns the file of an indexed photo."""
        return (self.folder / self.index.ids[row]).read_bytes()


@pytest.fixture(scope="session")
def page_index(photo_folder):
    """Descriptors of the thirty photos of `photo_folder`."""
    ids = sorted(path.relative_to(photo_folder).as_posix() for path in photo_folder.rglob("*.*"))
    vectors = np.stack([describe(Image.open(photo_folder / photo)) for photo in ids])
    return PhotoIndex(Descriptors(vectors, tuple(ids), {"model_sha256": "ab" * 32}), "small")


@pytest.fixture(scope="session")
def _running(page_index, photo_folder):
    server = FakeServer()
    page = SearchPage(page_index, from_folder(photo_folder, page_index.ids), server, results=28)
    with PageServer(PageApi(page), PageSettings(port=0, max_bytes=100_000)) as running:
        yield Site(running, server, page_index, photo_folder)


@pytest.fixture
def site(_running):
    """The page, with a server that answers."""
    _running.server.error = None
    _running.server.asked.clear()
    return _running


@pytest.fixture(scope="session")
def png():
    """Encodes pixels, uint8 [H, W, 3]."""

    def encode(pixels):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    return encode
