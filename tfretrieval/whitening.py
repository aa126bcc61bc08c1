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
    centred, mean = _centred(vectors)
    return _from_covariance(centred.T @ centred / len(centred), mean, dimension, shrinkage)


def fit_discriminative(
    vectors: np.ndarray, labels: np.ndarray, dimension: int = 0, shrinkage: float = 0.3, total_share: float = 0.1
) -> Whitening:
    """Fits a whitening of the scatter within instances, shrunk towards the scatter of all descriptors.

    As `fit_pca`, of the matrix C_W + t * C_T: C_W is the covariance of descriptors around their instance's mean, C_T
    the covariance of all. Learned whitening (Mikolajczyk, Matas, ICCV 2007; Radenovic et al., TPAMI 2018) equalises C_W
    alone, from matching pairs, and needs many more samples than dimensions; t and s let it work with as many. The
    combination is this toolkit's.

    Args:
        vectors: float32 [N, D], N >= 2.
        labels: int [N], their instances; some have two or more photos.
        dimension: dimensions kept; 0 keeps all.
        shrinkage: s, >= 0.
        total_share: t, >= 0.

    Returns:
        The whitening.

    Raises:
        InputError: as `fit_pca`, or no instance has two photos, or a negative share.
    """
    if not total_share >= 0:
        raise InputError(f"--total_share={total_share}; 0 or more is wanted.")
    centred, mean = _centred(vectors)
    instances, group, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.max() < 2:
        raise InputError(f"each of the {len(instances)} instances has one descriptor; two or more of some are wanted.")
    sums = np.zeros((len(instances), centred.shape[1]))
    np.add.at(sums, group, centred)
    around = centred - (sums / counts[:, None])[group]
    scatter = (around.T @ around + total_share * (centred.T @ centred)) / len(centred)
    return _from_covariance(scatter, mean, dimension, shrinkage)


def _centred(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns float64 [N, D] with mean 0, and the mean."""
    if len(vectors) < 2:
        raise InputError(f"{len(vectors)} descriptors were given to fit a whitening; two or more are wanted.")
    exact = np.asarray(vectors, np.float64)
    mean = exact.mean(axis=0)
    return exact - mean, mean


def _from_covariance(covariance: np.ndarray, mean: np.ndarray, dimension: int, shrinkage: float) -> Whitening:
    width = len(mean)
    if not 0 <= dimension <= width:
        raise InputError(f"--dimension={dimension}; 1 to {width} dimensions, or 0 for all, are wanted.")
    if not shrinkage >= 0:
        raise InputError(f"--shrinkage={shrinkage}; 0 or more is wanted.")
    variances, directions = np.linalg.eigh(covariance)
    variances, directions = np.maximum(variances[::-1], 0.0), directions[:, ::-1]
    # What rounding alone makes of a direction without variance.
    floor = np.finfo(np.float32).eps * variances[0]
    scales = (variances + shrinkage * variances[:LEADING].mean() + floor) ** -0.5
    projection = (directions * scales).T[: dimension or width]
    return Whitening(mean.astype(np.float32), projection.astype(np.float32))
