"""Positives for queries: by instance label, or by what structure from motion knows of two photos (m1, m2, m3)."""

import dataclasses
from collections.abc import Callable

import numpy as np

from tfretrieval.data.scene_geometry import SceneSet, co_visibility, scale_ratio
from tfretrieval.errors import InputError

POSITIVES = ("instance", "m1", "m2", "m3")
# Radenovic, Tolias, Chum, TPAMI 2018: nearest cameras considered, least share of common points, most change of scale.
NEAREST_CAMERAS, COMMON_POINTS, SCALE_CHANGE = 100, 0.2, 1.5
Describe = Callable[[np.ndarray], np.ndarray]


class InstancePositives:
    """A random other photo of the query's instance, for training photos without geometry.

    Args:
        labels: int [N], instances of the training photos.
    """

    def __init__(self, labels: np.ndarray):
        self._by_label = np.argsort(labels, kind="stable")
        _, self._starts, self._sizes = np.unique(labels[self._by_label], return_index=True, return_counts=True)
        self._place = np.empty(len(labels), np.int64)
        self._place[self._by_label] = np.arange(len(labels))
        self._group = np.repeat(np.arange(len(self._sizes)), self._sizes)[self._place]

    def eligible(self) -> np.ndarray:
        """Returns int64 [M]: the rows that have a positive, rising."""
        return np.flatnonzero(self._sizes[self._group] > 1)

    def draw(self, queries: np.ndarray, rng: np.random.Generator, describe: Describe) -> np.ndarray:
        """Draws int64 [Q], a positive for each query, never the query itself; `describe` is not called."""
        del describe
        sizes, first = self._sizes[self._group[queries]], self._starts[self._group[queries]]
        step = 1 + rng.integers(0, sizes - 1)
        return self._by_label[first + (self._place[queries] - first + step) % sizes]


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """Photos that may serve as positives, query by query; the query's own 3-D model's photos with the nearest cameras.

    Attributes:
        offsets: int64 [N + 1]; the candidates of row n are entries offsets[n] to offsets[n + 1].
        rows: int64 [C], the candidates' rows, nearest camera first.
        common: int64 [C], 3-D points that query and candidate both see.
        share: float64 [C], common points over the query's points, in [0, 1].
        scale_change: float64 [C], at least 1; infinite without common points (see `scene_geometry.scale_ratio`).

    Raises:
        InputError: the arrays do not belong together.
    """

    offsets: np.ndarray
    rows: np.ndarray
    common: np.ndarray
    share: np.ndarray
    scale_change: np.ndarray

    def __post_init__(self):
        lengths = {name: len(getattr(self, name)) for name in ("rows", "common", "share", "scale_change")}
        if not len(self.offsets) or set(lengths.values()) != {int(self.offsets[-1])}:
            raise InputError(f"candidates have {lengths} entries; as many as the last offset are wanted of each.")

    @classmethod
    def from_scenes(cls, scenes: SceneSet, ids: tuple[str, ...], nearest: int = NEAREST_CAMERAS) -> "Candidates":
        """Collects the candidates of training photos from the scenes they were drawn from.

        Args:
            scenes: the geometry.
            ids: ids of the training photos, in the order of their rows; photos of the scenes that are not among them
                are nobody's candidates.
            nearest: most candidates of one query, those with the nearest camera centres.

        Raises:
            InputError: a photo is not in the scenes.
        """
        row_of = {photo: row for row, photo in enumerate(ids)}
        found: list[tuple] = [()] * len(ids)
        for scene in scenes.scenes:
            places = [place for place, photo in enumerate(scene.photos) if photo.id in row_of]
            rows = np.array([row_of[scene.photos[place].id] for place in places], np.int64)
            common, ratio = co_visibility(scene), scale_ratio(scene)
            centres = np.array([scene.photos[place].camera.centre for place in places]).reshape(-1, 3)
            for at, place in enumerate(places):
                distances = np.linalg.norm(centres - centres[at], axis=1)
                others = [other for other in np.argsort(distances, kind="stable") if other != at][:nearest]
                taken = np.array(places, np.int64)[others]
                share = common[place, taken] / max(1, common[place, place])
                found[rows[at]] = (rows[others], common[place, taken], share, ratio[place, taken])
        missing = [photo for photo, entry in zip(ids, found, strict=True) if not entry]
        if missing:
            raise InputError(
                f"the scenes' geometry lacks {len(missing)} of {len(ids)} training photos, first {missing[0]!r}; "
                "the geometry of the photos that the records were made of is wanted."
            )
        offsets = np.cumsum([0, *(len(entry[0]) for entry in found)]).astype(np.int64)
        columns = [np.concatenate(column) for column in zip(*found, strict=True)]
        return cls(offsets, *columns)

    def of(self, row: int) -> slice:
        """Returns where the candidates of a row stand."""
        return slice(int(self.offsets[row]), int(self.offsets[row + 1]))


@dataclasses.dataclass(frozen=True, eq=False)
class GeometricPositives:
    """The three choices of Radenovic, Tolias, Chum, TPAMI 2018, among a query's candidates M(q).

    m1(q) = the candidate with the nearest descriptor under the current network;
    m2(q) = the candidate with the most common 3-D points;
    m3(q) = a random candidate with at least `least_share` of the query's points in common and a change of scale of at
    most `most_change`: positives that match and are hard.

    Attributes:
        candidates: of every training photo.
        choice: "m1", "m2" or "m3".
        least_share: in [0, 1]; the paper's 0.2.
        most_change: at least 1; the paper's 1.5.

    Raises:
        InputError: an unknown choice, or a limit out of its range.
    """

    candidates: Candidates
    choice: str = "m3"
    least_share: float = COMMON_POINTS
    most_change: float = SCALE_CHANGE

    def __post_init__(self):
        if self.choice not in POSITIVES[1:]:
            raise InputError(f"--positives={self.choice} is unknown; one of {', '.join(POSITIVES)} is wanted.")
        if not 0 <= self.least_share <= 1:
            raise InputError(f"--common_points={self.least_share}; a share from 0 to 1 is wanted.")
        if not self.most_change >= 1:
            raise InputError(f"--scale_change={self.most_change}; 1 or more is wanted.")

    def eligible(self) -> np.ndarray:
        """Returns int64 [M]: the rows that have a positive, rising."""
        able = np.concatenate([[0], np.cumsum(self._allowed())])
        return np.flatnonzero(able[self.candidates.offsets[1:]] > able[self.candidates.offsets[:-1]])

    def draw(self, queries: np.ndarray, rng: np.random.Generator, describe: Describe) -> np.ndarray:
        """Chooses a positive for each query.

        Args:
            queries: int64 [Q], eligible rows.
            rng: the random source of m3.
            describe: gives descriptors under the current network, int64 [M] rows -> float32 [M, D]; m1 calls it.

        Returns:
            int64 [Q].
        """
        allowed, places = self._allowed(), [self.candidates.of(query) for query in queries]
        kept = [np.flatnonzero(allowed[place]) + place.start for place in places]
        if self.choice == "m3":
            return self.candidates.rows[[entries[rng.integers(len(entries))] for entries in kept]]
        if self.choice == "m2":
            return self.candidates.rows[[entries[self.candidates.common[entries].argmax()] for entries in kept]]
        needed = np.unique(np.concatenate([queries, *(self.candidates.rows[entries] for entries in kept)]))
        vectors = describe(needed)
        place_of = lambda rows: np.searchsorted(needed, rows)  # noqa: E731
        nearest = []
        for query, entries in zip(queries, kept, strict=True):
            rows = self.candidates.rows[entries]
            nearest.append(rows[(vectors[place_of(rows)] @ vectors[place_of(query)]).argmax()])
        return np.array(nearest, np.int64)

    def _allowed(self) -> np.ndarray:
        """Returns bool [C]: candidates that are admitted: all (m1), with common points (m2), within the limits (m3)."""
        if self.choice == "m3":
            found = self.candidates
            return (found.common > 0) & (found.share >= self.least_share) & (found.scale_change <= self.most_change)
        return self.candidates.common > 0 if self.choice == "m2" else np.ones(len(self.candidates.rows), bool)
