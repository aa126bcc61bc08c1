"""The page's addresses: which request is which question, and what of a request cannot be meant."""

import dataclasses
import importlib.resources
import json
import secrets
import urllib.parse
from collections.abc import Callable, Mapping

from export.search_page.errors import PageError
from export.search_page.pictures import LARGE, THUMBNAIL
from export.search_page.searching import Query, SearchPage
from tfretrieval.errors import InputError
from tfretrieval.evaluation import page_parts

JSON, HTML, CSS, JAVASCRIPT, JPEG = (
    "application/json; charset=utf-8",
    "text/html; charset=utf-8",
    "text/css; charset=utf-8",
    "text/javascript; charset=utf-8",
    "image/jpeg",
)
_SCRIPTS = ("page.js", "dom.js", "box.js", "results.js", "why.js", "browser.js")
MOST_LISTED = 200


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a request is answered.

    Attributes:
        body: its bytes.
        kind: its content type.
        lasts: whether the browser may keep it while the page is open.
    """

    body: bytes
    kind: str
    lasts: bool = False


class PageApi:
    """Answers requests. Threads may share it.

    Args:
        page: answers questions.
    """

    def __init__(self, page: SearchPage):
        self._page = page
        self._key = secrets.token_hex(4)  # in the addresses of pictures, which browsers keep: another index, others
        self._files = {f"/{name}": Answer(_resource(name), JAVASCRIPT) for name in _SCRIPTS}
        self._files["/"] = Answer(_resource("page.html"), HTML)
        self._files["/page.css"] = Answer(_resource("page.css"), CSS)
        self._files["/report.css"] = Answer(page_parts.resource("report.css").encode(), CSS)
        self._questions: dict[str, Callable[[Mapping[str, str], bytes | None], dict]] = {
            "/api/about": lambda given, body: {**page.about(), "key": self._key},
            "/api/server": lambda given, body: page.server(),
            "/api/photos": self._photos,
            "/api/search": lambda given, body: page.search(_query(given, body)),
            "/api/why": lambda given, body: page.why(_query(given, body), _number(given, "result")),
        }

    @staticmethod
    def takes_body(path: str) -> bool:
        """Says whether a photo may be sent to an address."""
        return path in ("/api/search", "/api/why")

    def answer(self, target: str, body: bytes | None) -> Answer:
        """Answers one request.

        Args:
            target: path and query of its address.
            body: what was sent with it; None for a GET.

        Raises:
            PageError: 404 where there is no such address, others as the questions have them.
        """
        path, _, text = target.partition("?")
        if path in self._files:
            return self._files[path]
        if path in self._questions:
            given = _parameters(text)
            try:
                found = self._questions[path](given, body)
            except InputError as error:
                raise PageError(409, str(error)) from error
            return Answer(json.dumps(found, ensure_ascii=False, allow_nan=False).encode(), JSON)
        for folder, side in (("/thumbnails/", THUMBNAIL), ("/photos/", LARGE)):
            name = path.removeprefix(folder).removesuffix(".jpg")
            if path == f"{folder}{name}.jpg" and _is_number(name):
                self._page.check_row(int(name))
                return Answer(self._page.pictures.jpeg(int(name), side), JPEG, lasts=True)
        raise PageError(404, "There is nothing at this address.")

    def _photos(self, given: Mapping[str, str], body: bytes | None) -> dict:
        count = _number(given, "count", 48)
        if count > MOST_LISTED:
            raise PageError(400, f"count is {count}; at most {MOST_LISTED} is wanted.")
        return self._page.photos(_number(given, "from", 0), count, given.get("text", ""))


def _resource(name: str) -> bytes:
    return importlib.resources.files(__package__).joinpath(name).read_bytes()


def _parameters(text: str) -> dict[str, str]:
    try:
        pairs = urllib.parse.parse_qsl(text, keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError:
        raise PageError(400, "The address cannot be read.") from None
    return dict(pairs)


def _query(given: Mapping[str, str], body: bytes | None) -> Query:
    row = _number(given, "photo") if "photo" in given else None
    return Query(body, row, _box(given["box"]) if "box" in given else None)


def _number(given: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = given.get(name)
    if text is None and default is not None:
        return default
    if text is None or not _is_number(text):
        raise PageError(400, f"{name} is {text or 'missing'}; a whole number from 0 on is wanted.")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = map(float, text.split(","))
    except ValueError:
        raise PageError(400, f"box is {text[:80]!r}; left,top,right,bottom as shares is wanted.") from None
    return left, top, right, bottom
