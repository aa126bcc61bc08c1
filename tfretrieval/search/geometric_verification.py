"""Geometric verification: photos whose local features agree with the query's in one transformation come first."""

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar

import cv2
import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.search.candidates import Candidates
from tfretrieval.search.exact import Progress, told
from tfretrieval.search.local_features import root_sift
from tfretrieval.search.step import Step, setting

Features = tuple[np.ndarray, np.ndarray]

# Pairs of points that every transformation of the kind fits, and so prove nothing.
SAMPLES = {"homography": 4, "affine": 3}
# Photos whose features are held: with 1,000 SIFT features each, 500 KB a photo.
_HELD_PHOTOS = 1000


@dataclasses.dataclass(frozen=True)
class GeometricVerification(Step):
    """Orders the first photos by their inliers: `gv:top=100,model=homography`.

    Local features of query and photo are paired (`pairs`), a transformation is fitted to the pairs with MAGSAC++
    (`verify`), and the `top` photos are ordered by the number of inliers, equal ones by their rank before. Source of
    the procedure: Philbin, Chum, Isard, Sivic, Zisserman, "Object Retrieval with Large Vocabularies and Fast Spatial
    Matching", CVPR 2007; of the fit: Barath, Noskova, Ivashechkin, Matas, "MAGSAC++, a Fast, Reliable and Accurate
    Robust Estimator", CVPR 2020, as OpenCV has it, with its generator in the same state for every pair.

    Features come from the context: those given (`local_features.LocalFeatures`), or RootSIFT of the photos that its
    readers return. The similarities it leaves are numbers of inliers.

    Memory: the features of up to 1,000 photos, 500 KB each at 1,000 SIFT features, and 4 bytes for each pair of
    features of two photos.

    Attributes:
        top: photos verified.
        model: homography or affine.
        ratio: a pair's nearest feature is closer than this share of the distance of the second nearest.
        threshold: largest distance of an inlier, in pixels of the database photo; MAGSAC++ weighs distances below it.
        features: SIFT features of a photo, at most.
        side: photos are shrunk to this length of their longer side for SIFT; points stay in the photo's own pixels.
        iterations: most samples drawn for one transformation.
    """

    name: ClassVar[str] = "gv"
    needs_photos: ClassVar[bool] = True
    top: int = setting(100, least=1)
    model: str = setting("homography", choices=tuple(SAMPLES))
    ratio: float = setting(0.8, above=0, most=1)
    threshold: float = setting(5.0, above=0)
    features: int = setting(1000, least=1)
    side: int = setting(1024, least=16)
    iterations: int = setting(2000, least=1)

    @property
    def depth(self) -> int:
        """The short list's length."""
        return self.top

    def apply(self, candidates: Candidates, progress: Progress | None = None) -> Candidates:
        """Verifies and re-orders; see `Step.apply`.

        Raises:
            InputError: the context has neither features nor photos, or features of other numbers of photos.
        """
        context = candidates.context
        query = self._source(context.query_features, context.query_photo, len(candidates.queries), "queries")
        photo = self._source(context.database_features, context.database_photo, len(candidates.database), "database")
        held = functools.lru_cache(_HELD_PHOTOS)(photo)
        found, scores = list(candidates.first(self.top)), []
        for number, rows in enumerate(told(found, progress, "geometric verification", len(found), "query")):
            own = query(number)
            scores.append(np.array([self.inliers(own, held(int(row))) for row in rows], np.float32))
        return candidates.reordered(found, scores)

    def inliers(self, query: Features, photo: Features) -> int:
        """Returns the number of inliers between the features of two photos; see `verify`."""
        if query[1].shape[1] != photo[1].shape[1] and len(query[1]) and len(photo[1]):
            raise InputError(
                f"--rerank={self.name}: the queries' local features have {query[1].shape[1]} dimensions and the "
                f"database's {photo[1].shape[1]}; equal ones are wanted."
            )
        matched = pairs(query[1], photo[1], self.ratio)
        points = query[0][matched[:, 0]], photo[0][matched[:, 1]]
        return int(verify(*points, self.model, self.threshold, self.iterations)[1].sum())

    def _source(self, features, reader: Callable | None, count: int, what: str) -> Callable[[int], Features]:
        """Returns a function from a row to its local features."""
        if features is not None:
            if len(features) != count:
                raise InputError(
                    f"--rerank={self.name}: local features of {len(features)} photos stand beside {count} {what}; as "
                    "many are wanted."
                )
            return features.photo
        if reader is None:
            raise InputError(
                f"--rerank={self.name}: neither photos nor local features of the {what} are given; one of them is "
                "wanted."
            )
        return lambda row: root_sift(reader(row), self.features, self.side)


def pairs(query: np.ndarray, photo: np.ndarray, ratio: float) -> np.ndarray:
    """Pairs features by the ratio test: the nearest one, if it is much nearer than the second nearest.

    Source: Lowe, IJCV 2004. Where several features of the query have the same nearest one, the closest pair alone is
    kept, the earlier one of equals: this toolkit's, as otherwise a transformation that shrinks a photo to a point fits
    them all.

    Args:
        query: float32 [A, D], compared by Euclidean distance.
        photo: float32 [B, D].
        ratio: the nearest's distance is less than this share of the second nearest's.

    Returns:
        int64 [P, 2], rows of both in order of the query's; none where the photo has fewer than two features.
    """
    if len(query) == 0 or len(photo) < 2:
        return np.zeros((0, 2), np.int64)
    squares = np.einsum("ad,ad->a", query, query)[:, None] + np.einsum("bd,bd->b", photo, photo)[None, :]
    distances = np.maximum(squares - 2 * query @ photo.T, 0)
    nearest = distances.argmin(axis=1)
    rows = np.arange(len(query))
    first = distances[rows, nearest]
    distances[rows, nearest] = np.inf
    passing = np.flatnonzero(first < ratio**2 * distances.min(axis=1))
    closest_first = passing[np.argsort(first[passing], kind="stable")]
    _, kept = np.unique(nearest[closest_first], return_index=True)
    chosen = np.sort(closest_first[kept])
    return np.stack([chosen, nearest[chosen]], axis=1)


def verify(
    query: np.ndarray, photo: np.ndarray, model: str, threshold: float, iterations: int
) -> tuple[np.ndarray | None, np.ndarray]:
    """Fits a transformation from the query's points to a photo's, with MAGSAC++.

    The same input gives the same result.

    Args:
        query: float32 [P, 2], x and y.
        photo: float32 [P, 2], paired with them.
        model: a key of `SAMPLES`.
        threshold: largest distance of an inlier in the photo, pixels.
        iterations: most samples drawn.

    Returns:
        The transformation, float64 [3, 3] or [2, 3], or None where none was found; and bool [P], the inliers: all false
        where there is no transformation or no more inliers than any transformation of the kind fits.
    """
    nothing = None, np.zeros(len(query), bool)
    if len(query) <= SAMPLES[model]:
        return nothing
    fit = cv2.findHomography if model == "homography" else cv2.estimateAffine2D
    try:
        found, inside = fit(query, photo, _settings(threshold, iterations))
    except cv2.error:  # points that allow no transformation, all on one line for example
        return nothing
    if found is None or inside is None or np.count_nonzero(inside) <= SAMPLES[model]:
        return nothing
    return found, inside.ravel().astype(bool)


def _settings(threshold: float, iterations: int) -> cv2.UsacParams:
    """Returns OpenCV's settings of MAGSAC++, with its generator in a fixed state."""
    settings = cv2.UsacParams()
    settings.threshold, settings.maxIterations, settings.confidence = threshold, iterations, 0.999
    settings.score, settings.loMethod = cv2.SCORE_METHOD_MAGSAC, cv2.LOCAL_OPTIM_SIGMA
    settings.final_polisher = cv2.MAGSAC
    settings.randomGeneratorState, settings.isParallel = 0, False
    return settings
