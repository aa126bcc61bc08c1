import io
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from tfretrieval.evaluation.album import Album, Photos
from tfretrieval.evaluation.confusion_section import confusion_articles
from tfretrieval.evaluation.confusions import explainer, find_confusions, match_places
from tfretrieval.evaluation.contributions import Contributions
from tfretrieval.evaluation.evaluate import evaluate
from tfretrieval.evaluation.relevance import Relevance
from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor


def pattern(seed, height=300, width=400):
    """Coloured rectangles and discs, which have corners for SIFT to find."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.uint8)
    for _ in range(120):
        x, y = rng.integers(0, width), rng.integers(0, height)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        size = int(rng.integers(8, 40))
        if rng.random() < 0.5:
            cv2.rectangle(picture, (int(x), int(y)), (int(x) + size, int(y) + size), colour, -1)
        else:
            cv2.circle(picture, (int(x), int(y)), size // 2, colour, -1)
    return picture


def test_a_planted_motion_is_found_and_its_places_fit_it():
    first = pattern(0)
    motion = np.array([[0.9, 0.2, 30.0], [-0.2, 0.9, 60.0]])
    second = cv2.warpAffine(first, motion, (450, 380), borderValue=(128, 128, 128))
    found = match_places(first, second)
    assert found.agree.sum() > 50
    source, target = found.first * (400, 300), found.second * (450, 380)
    moved = source @ motion[:, :2].T + motion[:, 2]
    errors = np.linalg.norm(moved - target, axis=1)
    assert np.median(errors[found.agree]) < 1 and errors[found.agree].max() < 8
    for places in (found.first, found.second):  # no place is matched twice
        assert len(np.unique(places, axis=0)) == len(places)


def test_strangers_and_blank_photos_agree_on_no_motion():
    for seed in range(3):
        assert not match_places(pattern(10 + seed), pattern(20 + seed)).agree.any()
    blank = np.full((50, 60, 3), 90, np.uint8)
    for pair in ((blank, blank), (pattern(0), blank), (blank, pattern(0))):
        found = match_places(*pair)
        assert len(found.first) == len(found.second) == len(found.agree) == 0


def test_matches_repeat():
    pair = pattern(0), cv2.GaussianBlur(pattern(0), (5, 5), 0)
    first, second = match_places(*pair), match_places(*pair)
    np.testing.assert_array_equal(first.first, second.first)
    np.testing.assert_array_equal(first.agree, second.agree)


@pytest.fixture
def found():
    """Four queries at angles on a circle of six photos; labels make the first wrong for queries 0, 1 and 3."""
    angles = np.array([0.0, 0.1, 0.5, 1.0, 1.3, 2.0])
    database = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    asked = np.array([0.02, 0.11, 0.5, 1.25])
    queries = np.stack([np.cos(asked), np.sin(asked)], axis=1).astype(np.float32)
    relevant = (np.array([2]), np.array([0]), np.array([2]), np.array([3, 5]))
    return evaluate(queries, database, Relevance("instance", 6, relevant, (np.empty(0, int),) * 4))


def test_wrong_first_results_come_with_the_most_similar_first(found):
    listed = find_confusions(found, 5, lambda query, row: (query, row))
    assert [(each.query, each.wrong) for each in listed] == [(1, 1), (0, 0), (3, 4)]
    assert [each.similarity for each in listed] == pytest.approx(np.cos([0.01, 0.02, 0.05]), abs=1e-6)
    assert [(each.right, each.right_rank) for each in listed] == [(0, 2), (2, 3), (3, 2)]
    assert listed[1].right_similarity == pytest.approx(np.cos(0.48), abs=1e-6)
    assert len(find_confusions(found, 1, lambda query, row: row)) == 1 and not find_confusions(found, 0, max)
    assert [each.query for each in find_confusions(found, 5, lambda query, row: row < 4)] == [1, 3]


def make_photos(pictures):
    def read(row):
        if pictures[row] is None:
            return None
        buffer = io.BytesIO()
        Image.fromarray(pictures[row]).save(buffer, "PNG")
        return buffer.getvalue()

    names = [f"<b>{row}</b>" for row in range(len(pictures))]
    return Photos(names, names, read)


def test_an_article_draws_lines_between_places_that_agree(found):
    wrong = cv2.warpAffine(pattern(0), np.float64([[1, 0, 20], [0, 1, 10]]), (400, 300))
    listed = find_confusions(found, 1, lambda query, row: row)
    queries, database = make_photos([pattern(5), pattern(0)]), make_photos([pattern(7), wrong])
    text = confusion_articles(Album(200), listed, queries, database)
    paths = re.findall(r'<path d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', text)
    assert 5 < len(paths) <= 60
    moved = np.array(paths, float)
    width = 100 * 400 / 300
    shift = (moved[:, 2] - width - moved[:, 0], moved[:, 3] - moved[:, 1])
    assert np.median(shift[0]) == pytest.approx(20 / 3, abs=0.3) and np.median(shift[1]) == pytest.approx(
        10 / 3, abs=0.3
    )
    assert "Similarity 1.000; the first right photo follows at rank 2 with 0.994." in text
    assert "Many places of both photos agree" in text and "<b>" not in text
    assert text.count("<img") == text.count("alt=") == 2


def test_photos_that_are_not_at_hand_have_no_article(found):
    listed = find_confusions(found, 5, lambda query, row: row)
    nothing = make_photos([None] * 6)
    assert confusion_articles(Album(100), listed, nothing, nothing) == ""


def test_contributions_are_drawn_over_both_photos(found):
    seen = []

    def explain(photo, other):
        seen.append((photo.shape, other.shape))
        return Contributions(np.float32([[0.5, 0.1], [-0.1, 0.0]]), 0.0, 0.5)

    listed = find_confusions(found, 1, lambda query, row: row)
    photos = make_photos([pattern(1), pattern(2, 200, 100)])
    text = confusion_articles(Album(200), listed, photos, photos, explain)
    assert seen == [((200, 100, 3),) * 2] * 2
    assert text.count("<img") == 4 and "blue: what speaks against it" in text


def test_a_network_tells_contributions_at_the_size_it_describes():
    model = build_descriptor(DescriptorConfig(backbone="small_resnet"))
    photos = pattern(1), pattern(2, 200, 100)
    told = explainer(model, 96)(*photos)
    sizes = (96, 72), (48, 96)
    small = [cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each, size in zip(photos, sizes, strict=True)]
    first, second = (model(each[None], training=False)[0].numpy() for each in small)
    assert told.similarity == pytest.approx(float(first @ second), abs=1e-5)
    assert told.positions.sum() == pytest.approx(told.similarity, abs=2e-3)
