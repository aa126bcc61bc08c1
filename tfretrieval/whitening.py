"""Linear whitening of descriptors, fitted from samples and folded into the network."""

import dataclasses
from pathlib import Path

import numpy as np

from tfretrieval.errors import InputError

# Directions whose mean variance the shrinkage is measured against.
LEADING = 20


@dataclasses.dataclass(frozen=True)
class Whitening:
    """An affine map of descriptors, followed by L2: x -> normalise(projection (x - mean)).

    Attributes:
        mean: float32 [D].
        projection: float32 [d, D], d <= D.
    """

    mean: np.ndarray
    projection: np.ndarray

    def __post_init__(self):
        if self.mean.ndim != 1 or self.projection.ndim != 2 or self.projection.shape[1] != len(self.mean):
            raise InputError(
                f"a whitening has a mean of shape {self.mean.shape} and a projection of shape {self.projection.shape}; "
                "[D] and [d, D] are wanted."
            )

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Whitens descriptors: float32 [N, D] -> float32 [N, d], rows of length 1."""
        whitened = (vectors - self.mean) @ self.projection.T
        return whitened / np.maximum(np.linalg.norm(whitened, axis=1, keepdims=True), 1e-12)

    def save(self, path: str | Path) -> None:
        """Writes the whitening as an npz file with `mean` and `projection`."""
        np.savez(path, mean=self.mean, projection=self.projection)

    @classmethod
    def load(cls, path: str | Path) -> "Whitening":
        """Reads what `save` wrote.

        Raises:
            InputError: the file is missing or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(stored["mean"], stored["projection"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise InputError(
                f"{path} is not a whitening ({error}); an npz file of pipelines.whiten is wanted."
            ) from error


def fit_pca(vectors: np.ndarray, dimension: int = 0, shrinkage: float = 0.3) -> Whitening:
    """Fits PCA whitening with shrunk variances.

    P = diag(l_k + s * mean(l_1 .. l_20))^(-1/2) V^T, with l and V the eigenvalues, falling, and eigenvectors of the
    covariance. At s = 0 this is plain PCA whitening (Jegou, Chum, ECCV 2012), which with fewer samples than a few
    times the dimension blows up directions that are noise; s keeps those small. The form of the shrinkage is this
    toolkit's.

    Args:
        vectors: float32 [N, D], N >= 2.
        dimension: dimensions kept, those of the largest variance; 0 keeps all.
        shrinkage: s, >= 0.

    Returns:
        The whitening.

    Raises:
        InputError: too few vectors, more dimensions wanted than there are, or a negative shrinkage.
    """
    count, width = vectors.shape
    if count < 2:
        raise InputError(f"{count} descriptors were given to fit a whitening; two or more are wanted.")
    if not 0 <= dimension <= width:
        raise InputError(f"--dimension={dimension}; 1 to {width} dimensions, or 0 for all, are wanted.")
    if not shrinkage >= 0:
        raise InputError(f"--shrinkage={shrinkage}; 0 or more is wanted.")
    exact = np.asarray(vectors, np.float64)
    mean = exact.mean(axis=0)
    variances, directions = np.linalg.eigh((exact - mean).T @ (exact - mean) / count)
    variances, directions = np.maximum(variances[::-1], 0.0), directions[:, ::-1]
    # What rounding alone makes of a direction without variance.
    floor = np.finfo(np.float32).eps * variances[0]
    scales = (variances + shrinkage * variances[:LEADING].mean() + floor) ** -0.5
    projection = (directions * scales).T[: dimension or width]
    return Whitening(mean.astype(np.float32), projection.astype(np.float32))
