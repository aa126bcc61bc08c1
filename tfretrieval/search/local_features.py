"""Local features of photos: points and their descriptors, from OpenCV's SIFT or from a file."""

import dataclasses
import zipfile
from pathlib import Path

import cv2
import numpy as np

from tfretrieval.errors import InputError

_ARRAYS = ("offsets", "points", "descriptors")


@dataclasses.dataclass(frozen=True, eq=False)
class LocalFeatures:
    """Local features of N photos.

    Attributes:
        offsets: int64 [N + 1]; photo n has the features offsets[n] to offsets[n + 1] - 1.
        points: float32 [M, 2], x and y in pixels.
        descriptors: float32 [M, D] or, as SIFT is often stored, uint8; compared by Euclidean distance.

    Raises:
        InputError: when made of arrays that do not fit together, or with values that are not finite.
    """

    offsets: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray

    def __post_init__(self):
        offsets, count = self.offsets, len(self.points)
        fits = (
            offsets.ndim == 1
            and len(offsets) > 0
            and np.issubdtype(offsets.dtype, np.integer)
            and offsets[0] == 0
            and offsets[-1] == count
            and not np.any(np.diff(offsets) < 0)
        )
        if not fits:
            raise InputError(
                f"offsets of shape {offsets.shape} do not divide {count} local features among photos; rising whole "
                f"numbers from 0 to {count} are wanted."
            )
        if self.points.shape != (count, 2) or not np.issubdtype(self.points.dtype, np.floating):
            raise InputError(
                f"points are {self.points.dtype} of shape {self.points.shape}; floats [M, 2], x and y, are wanted."
            )
        kind = self.descriptors.dtype
        if self.descriptors.ndim != 2 or len(self.descriptors) != count or kind not in (np.float32, np.uint8):
            raise InputError(
                f"descriptors are {kind} of shape {self.descriptors.shape}; float32 or uint8 [{count}, D] is wanted."
            )
        if not (np.isfinite(self.points).all() and (kind == np.uint8 or np.isfinite(self.descriptors).all())):
            raise InputError("local features hold values that are not finite; finite ones are wanted.")

    @classmethod
    def load(cls, path: str | Path) -> "LocalFeatures":
        """Reads what `save` or another program wrote: an npz file of the three arrays, into memory.

        Raises:
            InputError: the file is missing or unreadable, or its arrays do not fit together.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                missing = [name for name in _ARRAYS if name not in stored]
                if missing:
                    raise InputError(f"{path} has no array {missing[0]!r}; {', '.join(_ARRAYS)} are wanted.")
                arrays = [stored[name] for name in _ARRAYS]
        except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is not a readable npz file of local features: {error}.") from error
        try:
            return cls(*arrays)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @classmethod
    def of_photos(cls, features: list[tuple[np.ndarray, np.ndarray]]) -> "LocalFeatures":
        """Joins the points and descriptors of photos, one or more photos."""
        points, descriptors = zip(*features, strict=True)
        offsets = np.cumsum([0, *map(len, points)], dtype=np.int64)
        return cls(offsets, np.concatenate(points), np.concatenate(descriptors))

    def save(self, path: str | Path) -> None:
        """Writes an npz file that `load` reads."""
        with Path(path).open("wb") as file:
            np.savez(file, offsets=self.offsets, points=self.points, descriptors=self.descriptors)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def photo(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns one photo's points, float32 [m, 2], and descriptors, float32 [m, D]."""
        own = slice(self.offsets[row], self.offsets[row + 1])
        return self.points[own].astype(np.float32), self.descriptors[own].astype(np.float32)


def root_sift(photo: np.ndarray, most: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds SIFT features with OpenCV and takes the square root of their descriptors.

    RootSIFT: descriptors divided by their sum, then the root of each element, which makes their length 1. Source:
    Arandjelovic, Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012; SIFT: Lowe,
    IJCV 2004.

    Args:
        photo: uint8 [H, W, 3], RGB.
        most: features kept, those of the largest contrast.
        side: photos whose longer side is longer are shrunk to it first.

    Returns:
        Points in the given photo's pixels, float32 [m, 2], and descriptors, float32 [m, 128].
    """
    shrink = min(1.0, side / max(photo.shape[:2]))
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    if shrink < 1:
        size = (max(1, round(photo.shape[1] * shrink)), max(1, round(photo.shape[0] * shrink)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    found, descriptors = cv2.SIFT_create(nfeatures=most).detectAndCompute(grey, None)
    if not found:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    scale = np.array([photo.shape[1] / grey.shape[1], photo.shape[0] / grey.shape[0]], np.float32)
    points = np.array([feature.pt for feature in found], np.float32) * scale
    # OpenCV returns some more where several have the same contrast.
    return points[:most], np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-12))[:most]
