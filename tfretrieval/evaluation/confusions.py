"""Why a query finds a wrong photo before a right one: the places of both photos that look alike."""

import dataclasses
from collections.abc import Callable, Hashable

import cv2
import keras
import numpy as np

from tfretrieval.evaluation.contributions import Contributions, contributions
from tfretrieval.evaluation.evaluate import Evaluation

MATCH_SIDE = 480  # pixels of the longer side that features are found at
_RATIO = 0.8
_MAX_FEATURES = 1500
_REPROJECTION = 6.0
# Matches that an affine motion explains by chance: three always, and of many matches a few more.
_AGREEING, _AGREEING_SHARE = 8, 0.15
_LARGEST_SCALE, _LARGEST_STRETCH = 8.0, 3.0
_TRIALS = 1000

Explain = Callable[[np.ndarray, np.ndarray], Contributions]


@dataclasses.dataclass(frozen=True)
class Confusion:
    """A query and the nearest wrong photo that stands before all right ones.

    Attributes:
        query: the query's row.
        wrong: the wrong photo's row in the database.
        similarity: of the two.
        right: the right photo found first; None where it is not among the first photos.
        right_rank: its place from 1; 0 where none was found.
        right_similarity: its similarity; NaN where `right` is None.
    """

    query: int
    wrong: int
    similarity: float
    right: int | None
    right_rank: int
    right_similarity: float


@dataclasses.dataclass(frozen=True, eq=False)
class Matches:
    """Places of two photos that look alike.

    Attributes:
        first: float32 [M, 2], (x, y) as shares of the first photo's width and height.
        second: float32 [M, 2], of the second photo.
        agree: bool [M], whether one affine motion takes the first place to the second.
    """

    first: np.ndarray
    second: np.ndarray
    agree: np.ndarray


def find_confusions(evaluation: Evaluation, most: int, kind: Callable[[int, int], Hashable]) -> list[Confusion]:
    """Returns wrong first results, the most similar to their query first: errors that the network was surest of.

    Args:
        evaluation: holds the ranking.
        most: confusions at most.
        kind: of a query's row and a database row, what kind of confusion it is (both labels, say); one of each kind is
            returned, so that two classes that are always confused do not fill the list.
    """
    found: list[Confusion] = []
    if not evaluation.top.order.shape[1]:
        return found
    rows = np.flatnonzero(~np.isnan(evaluation.ap) & ~evaluation.top_is_relevant[:, 0])
    taken: set[Hashable] = set()
    for query in rows[np.argsort(-evaluation.top.similarity[rows, 0], kind="stable")].tolist():
        photo = int(evaluation.top.order[query, 0])
        if len(found) == most:
            break
        if kind(query, photo) in taken:
            continue
        taken.add(kind(query, photo))
        hits = np.flatnonzero(evaluation.top_is_relevant[query])
        right = int(evaluation.top.order[query, hits[0]]) if len(hits) else None
        score = float(evaluation.top.similarity[query, hits[0]]) if len(hits) else float("nan")
        similarity = float(evaluation.top.similarity[query, 0])
        found.append(Confusion(query, photo, similarity, right, int(evaluation.first_relevant_rank[query]), score))
    return found


def match_places(first: np.ndarray, second: np.ndarray) -> Matches:
    """Finds places of two photos that look alike, by SIFT.

    Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004: matches whose distance is below 0.8 of
    the second nearest's. Those that one affine motion explains within 6 pixels are told apart by RANSAC of OpenCV. The
    network uses no such features: the matches tell what two photos share, not what it looked at.

    Args:
        first: uint8 [H, W, 3].
        second: uint8 [H', W', 3].
    """
    (points, features), (other_points, other_features) = _features(first), _features(second)
    if features is None or other_features is None or len(other_features) < 2:
        return _no_matches()
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(features, other_features, k=2)
    kept = [best for best, next_best in pairs if best.distance < _RATIO * next_best.distance]
    # A place that many others resemble says nothing, and SIFT may describe one place in several directions: each place
    # of either photo has its best match only.
    places: dict[tuple, tuple] = {}
    taken: set[tuple] = set()
    for match in sorted(kept, key=lambda each: each.distance):
        source, target = points[match.queryIdx], other_points[match.trainIdx]
        if source not in places and target not in taken:
            places[source] = target
            taken.add(target)
    if not places:
        return _no_matches()
    source, target = np.float32(list(places)), np.float32(list(places.values()))
    return Matches(source / _size(first), target / _size(second), _agreement(source, target))


def explainer(model: keras.Model, image_size: int) -> Explain:
    """Returns what tells the contributions of two photos' positions to their similarity, by a network.

    Args:
        model: see `contributions`.
        image_size: longer side in pixels that photos are described at.
    """

    def fitted(photo: np.ndarray) -> np.ndarray:
        scale = image_size / max(photo.shape[:2])
        if scale >= 1:
            return photo
        size = [max(1, round(scale * side)) for side in (photo.shape[1], photo.shape[0])]
        return cv2.resize(photo, size, interpolation=cv2.INTER_AREA)

    return lambda photo, other: contributions(model, fitted(photo), fitted(other))


def _agreement(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns bool [M]: the matches of one affine motion; none where too few agree to mean anything."""
    nothing = np.zeros(len(source), bool)
    if len(source) < _AGREEING:
        return nothing
    cv2.setRNGSeed(0)
    motion, inside = cv2.estimateAffine2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=_REPROJECTION, maxIters=_TRIALS
    )
    if motion is None or inside.sum() < max(_AGREEING, _AGREEING_SHARE * len(source)):
        return nothing
    # A motion that mirrors a photo, or squeezes it to a line or a point, explains any matches.
    large, small = np.linalg.svd(motion[:, :2], compute_uv=False)
    if np.linalg.det(motion[:, :2]) <= 0 or large > _LARGEST_STRETCH * small:
        return nothing
    if not 1 / _LARGEST_SCALE <= small <= large <= _LARGEST_SCALE:
        return nothing
    return inside.ravel().astype(bool)


def _features(photo: np.ndarray) -> tuple[list, np.ndarray | None]:
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    points, features = cv2.SIFT_create(_MAX_FEATURES).detectAndCompute(grey, None)
    return [point.pt for point in points], features


def _size(photo: np.ndarray) -> np.ndarray:
    return np.float32([photo.shape[1], photo.shape[0]])


def _no_matches() -> Matches:
    nowhere = np.empty((0, 2), np.float32)
    return Matches(nowhere, nowhere, np.empty(0, bool))
