"""A local web page to search by photo: a photo or a part of it in, the most similar indexed photos out, and why."""

from export.search_page.errors import PageError
from export.search_page.http_server import PageServer
from export.search_page.index import PhotoIndex
from export.search_page.model_server import ModelServer
from export.search_page.searching import SearchPage
from export.search_page.settings import PageSettings

__all__ = ["ModelServer", "PageError", "PageServer", "PageSettings", "PhotoIndex", "SearchPage"]
