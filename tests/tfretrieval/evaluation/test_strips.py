import html
import io
import re

import numpy as np
import pytest
from PIL import Image

from tfretrieval.evaluation import strips
from tfretrieval.evaluation.album import Album, Photos
from tfretrieval.evaluation.evaluate import evaluate
from tfretrieval.evaluation.relevance import Relevance

HOSTILE = '"><script>alert(1)</script>'


def photo(row):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 9 * row, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def found():
    """Two queries that rank four photos in the order 0, 1, 2, 3; right are 1 for the first and 0, 2 for the second."""
    angles = np.array([0.0, 0.3, 0.6, 0.9])
    database = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    relevant = (np.array([1]), np.array([0, 2]))
    return evaluate(database[[0, 0]], database, Relevance("content", 4, relevant, (np.empty(0, int),) * 2))


def test_captions_name_the_class_that_matched_and_else_what_is_shown(found):
    shows = [("cat", "dog"), ("tree", "dog"), ("a", "b", "c", "d", "e"), ()]
    database = Photos(list("abcd"), ["largest", "tree", "a", "fallback"], photo, shows)
    queries = Photos(["q", "r"], ["dog", "cat"], photo, [("dog",), ("cat", "a")])
    text = strips.query_strip(Album(8), found, 0, queries, database)
    captions = re.findall(r'<span class="instance" title="([^"]*)">([^<]*)</span></li>', text)
    assert captions == [
        ("cat, dog", "dog + 1 more"),
        ("tree, dog", "dog + 1 more"),
        ("a, b, c, d, e", "a, b, c + 2 more"),
        ("fallback", "fallback"),
    ]
    assert "Result 2, right: dog + 1 more" in text and "Query: dog" in text
    second = strips.query_strip(Album(8), found, 1, queries, database)
    assert 'data-instance="cat, a"' in second and ">cat + 1 more<" in second and ">a + 4 more<" in second


def test_a_strip_tells_rank_similarity_and_mark_and_escapes_names(found):
    shown = Photos([HOSTILE] * 4, [HOSTILE] * 4, photo)
    text = strips.query_strip(Album(8), found, 0, shown, shown)
    assert "<script" not in text and html.escape(HOSTILE) in text
    marks = re.findall(r'<span class="badge" aria-hidden="true">(.) (\d+)</span>', text)
    assert marks == [("✗", "1"), ("✓", "2"), ("✗", "3"), ("✗", "4")]
    similarity = [float(value) for value in re.findall(r'class="similarity">([\d.]+)<', text)]
    assert similarity == pytest.approx(np.cos([0, 0.3, 0.6, 0.9]), abs=5e-4)
    assert "AP 0.500" in text and "first right photo at rank 2 · 1 right in the database" in text


def test_photos_without_a_name_are_called_by_their_id(found):
    shown = Photos(["all_souls_1", "b", "c", "d"], [""] * 4, photo)
    text = strips.query_strip(Album(8), found, 0, shown, shown)
    assert re.findall(r'<span class="instance" title="([^"]*)">', text)[0] == "all_souls_1"
    assert "Result 1, wrong: all_souls_1" in text


def test_moves_stand_beside_their_photo(found):
    shown = Photos(list("abcd"), list("abcd"), photo)
    text = strips.results_list(Album(8), found, 0, shown, moves=["was 3", "", "was >10", ""])
    items = text.split("</li>")
    assert ['class="move"' in item for item in items[:4]] == [True, False, True, False]
    assert "was &gt;10" in items[2]
