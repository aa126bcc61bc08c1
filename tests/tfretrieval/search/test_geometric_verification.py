import cv2
import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.search.geometric_verification import pairs, verify
from tfretrieval.search.local_features import LocalFeatures, root_sift
from tfretrieval.search.reranking import Context, parse_chain

HOMOGRAPHIES = {
    "turned": np.array([[0.9, -0.35, 90], [0.35, 0.9, -40], [0, 0, 1]]),
    "seen from the side": np.array([[1.0, 0.15, -20], [-0.1, 1.1, 30], [4e-4, 2e-4, 1]]),
    "smaller": np.array([[0.6, 0.02, 60], [-0.03, 0.62, 40], [-1e-4, 1e-4, 1]]),
}
AFFINE = np.array([[0.8, 0.2, 30], [-0.25, 0.9, 70]])


def picture(seed, height=300, width=400):
    """A photo of overlapping rectangles, with corners for SIFT."""
    rng = np.random.default_rng(seed)
    photo = np.full((height, width, 3), 128, np.uint8)
    for _ in range(200):
        x, y = rng.integers(0, width), rng.integers(0, height)
        photo[y : y + rng.integers(5, 50), x : x + rng.integers(5, 50)] = rng.integers(0, 256, 3)
    return cv2.GaussianBlur(photo, (0, 0), 0.8)


def warped(photo, homography, seed=100):
    """The photo under a homography, on another one and with noise."""
    size = photo.shape[1::-1]
    inside = cv2.warpPerspective(np.full(photo.shape[:2], 255, np.uint8), homography, size)
    seen = np.where(inside[..., None] > 250, cv2.warpPerspective(photo, homography, size), picture(seed))
    noise = np.random.default_rng(seed).normal(scale=4, size=seen.shape)
    return np.clip(seen + noise, 0, 255).astype(np.uint8)


def corner_error(found, planted, width=400, height=300):
    corners = np.array([[[0, 0], [width, 0], [width, height], [0, height]]], np.float64)
    return np.abs(cv2.perspectiveTransform(corners, found) - cv2.perspectiveTransform(corners, planted)).max()


@pytest.mark.parametrize("name", HOMOGRAPHIES)
def test_planted_homographies_of_rendered_photos_are_recovered(name):
    photo, planted = picture(0), HOMOGRAPHIES[name]
    query, other = root_sift(photo, 1000, 1024), root_sift(warped(photo, planted), 1000, 1024)
    matched = pairs(query[1], other[1], 0.8)
    found, inside = verify(query[0][matched[:, 0]], other[0][matched[:, 1]], "homography", 3.0, 2000)
    assert inside.sum() > 40 and corner_error(found, planted) < 2
    # What is called an inlier is one of the planted homography.
    projected = cv2.perspectiveTransform(query[0][matched[:, 0]][None].astype(np.float64), planted)[0]
    assert np.linalg.norm(projected - other[0][matched[:, 1]], axis=1)[inside].max() < 4


@pytest.mark.parametrize("share", [0.7, 0.3])
@pytest.mark.parametrize("model", ["homography", "affine"])
def test_planted_transformations_of_points_are_recovered_among_wrong_pairs(model, share):
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 500, (300, 2)).astype(np.float32)
    planted = np.vstack([AFFINE, [0, 0, 1]]) if model == "affine" else HOMOGRAPHIES["seen from the side"]
    moved = cv2.perspectiveTransform(points[None].astype(np.float64), planted)[0]
    right = int(300 * share)
    moved[right:] = rng.uniform(0, 500, (300 - right, 2))
    moved = (moved + rng.normal(scale=0.3, size=moved.shape)).astype(np.float32)
    found, inside = verify(points, moved, model, 3.0, 2000)
    assert inside[:right].mean() > 0.98 and inside[right:].sum() < 8
    square = np.vstack([found, [0, 0, 1]]) if model == "affine" else found
    assert corner_error(square, planted, 500, 500) < 2
    again = verify(points, moved, model, 3.0, 2000)
    np.testing.assert_array_equal(found, again[0])
    np.testing.assert_array_equal(inside, again[1])


@pytest.mark.parametrize("model", ["homography", "affine"])
def test_pairs_that_prove_nothing_have_no_inliers(model):
    rng = np.random.default_rng(1)
    line = np.stack([np.arange(50), 2 * np.arange(50)], axis=1).astype(np.float32)
    point = np.zeros((50, 2), np.float32)
    few = rng.uniform(0, 100, (3 if model == "affine" else 4, 2)).astype(np.float32)
    for query, photo in [(few, few), (line, line), (point, point), (few[:0], few[:0])]:
        found, inside = verify(query, photo, model, 3.0, 500)
        assert found is None and inside.shape == (len(query),) and not inside.any()
    wrong = rng.uniform(0, 1000, (2, 60, 2)).astype(np.float32)
    assert verify(*wrong, model, 3.0, 2000)[1].sum() < 10


def test_pairs_are_those_of_loops():
    rng = np.random.default_rng(2)
    query, photo = rng.random((40, 6), np.float32), rng.random((30, 6), np.float32)
    best = {}
    for a, own in enumerate(query.astype(np.float64)):
        distances = [np.sqrt(((own - other) ** 2).sum()) for other in photo.astype(np.float64)]
        nearest, second = sorted(range(30), key=distances.__getitem__)[:2]
        if distances[nearest] < 0.8 * distances[second]:
            best[nearest] = min(best.get(nearest, (9, 0)), (distances[nearest], a))
    expected = sorted([a, b] for b, (_, a) in best.items())
    assert pairs(query, photo, 0.8).tolist() == expected and len(expected) > 3
    assert pairs(query[:0], photo, 0.8).shape == pairs(query, photo[:1], 0.8).shape == (0, 2)


@pytest.fixture(scope="module")
def scene():
    """Two queries; the database shows each of them twice among others. Descriptors rank the right ones late."""
    queries = [picture(10), picture(11)]
    database = [picture(20 + seed) for seed in range(8)]
    database[6], database[3] = (warped(queries[0], HOMOGRAPHIES[name]) for name in ("smaller", "turned"))
    database[5], database[7] = (warped(queries[1], HOMOGRAPHIES[name]) for name in ("seen from the side", "smaller"))
    database[2] = np.zeros((60, 60, 3), np.uint8)  # nothing to see
    angles = np.linspace(0, 1, 8)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return queries, database, np.array([[1, 0], [1, 0]], np.float32), vectors


@pytest.mark.parametrize("model", ["homography", "affine"])
def test_right_photos_come_first_and_the_others_keep_their_order(scene, model):
    queries, database, query_vectors, vectors = scene
    context = Context(query_photo=queries.__getitem__, database_photo=database.__getitem__)
    chain = parse_chain(f"gv:top=7,model={model}")
    found = chain.rerank(query_vectors, vectors, context=context)
    assert set(found.order[0, :2].tolist()) == {3, 6} and found.order[1, 0] == 5
    assert found.order[:, 7].tolist() == [7, 7]  # beyond the seven verified
    inliers = found.similarity[:, :7]
    assert (inliers[0, :2] >= 20).all() and inliers[0, 2] < 12 and (inliers == np.round(inliers)).all()
    for order, counts in zip(found.order[:, :7], inliers, strict=True):  # equal counts by rank before, that is by row
        assert all(a < b for a, b, p, q in zip(order, order[1:], counts, counts[1:], strict=False) if p == q)
    again = chain.rerank(query_vectors, vectors, context=context)
    np.testing.assert_array_equal(found.order, again.order)
    np.testing.assert_array_equal(found.similarity, again.similarity)


def test_exported_features_give_what_photos_give_and_junk_is_not_looked_at(scene):
    queries, database, query_vectors, vectors = scene
    context = Context(
        query_features=LocalFeatures.of_photos([root_sift(photo, 1000, 1024) for photo in queries]),
        database_features=LocalFeatures.of_photos([root_sift(photo, 1000, 1024) for photo in database]),
    )
    chain = parse_chain("gv:top=8")
    photos = Context(query_photo=queries.__getitem__, database_photo=database.__getitem__)
    found = chain.rerank(query_vectors, vectors, context=context)
    np.testing.assert_array_equal(found.order, chain.rerank(query_vectors, vectors, context=photos).order)
    read = []
    junk = [np.array([6, 0]), np.array([6, 0])]
    photos = Context(query_photo=queries.__getitem__, database_photo=lambda row: read.append(row) or database[row])
    left = chain.rerank(query_vectors, vectors, junk, context=photos)
    assert sorted(read) == [1, 2, 3, 4, 5, 7]  # each once, for both queries
    assert left.order[0, 0] == 3 and left.order[:, 6:].tolist() == [[0, 6], [0, 6]]


def test_what_is_missing_is_told_before_any_work(scene):
    _, database, query_vectors, vectors = scene
    features = LocalFeatures.of_photos([root_sift(database[0], 10, 1024)] * 3)
    narrow = LocalFeatures(np.arange(9), np.zeros((8, 2), np.float32), np.ones((8, 4), np.float32))
    cases = [
        (Context(), "neither photos nor local features of the queries"),
        (Context(query_features=features), "neither photos nor local features of the database"),
        (
            Context(query_features=features, database_features=narrow),
            "local features of 3 photos stand beside 2 queries",
        ),
        (
            Context(query_photo=database.__getitem__, database_features=narrow),
            "the queries' local features have 128 dimensions and the database's 4",
        ),
    ]
    for context, sentence in cases:
        with pytest.raises(InputError, match=f"--rerank=gv: .*{sentence}"):
            parse_chain("gv").rerank(query_vectors, vectors, context=context)
