"""The three fits of a whitening: PCA, learned from pairs (Lw), and discriminative with shrinkage."""

import math

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.whitening.linear import Whitening
from tfretrieval.whitening.scatters import (
    check_samples,
    leading_variance,
    pair_and_total_scatter,
    total_scatter,
    within_scatter,
)

# On grocery-unseen, whose training photos are as many as the dimensions, near the best for every method and network.
SHRINKAGE = 0.3
TOTAL_SHARE = 0.1
_JITTER = 1e-10
# Sides up to which a triangular matrix is solved as a general one.
_SMALL = 64


def fit_pca(vectors: np.ndarray, dimension: int = 0, shrinkage: float = SHRINKAGE, power: float = 1.0) -> Whitening:
    """Fits PCA whitening with shrunk variances.

    P = diag(l_k + s * mean(l_1 .. l_20))^(-power/2) V^T, with l and V the eigenvalues, falling, and eigenvectors of the
    covariance. At s = 0 and power 1 this is plain PCA whitening (Jegou, Chum, ECCV 2012), which with fewer samples than
    a few times the dimension blows up directions that are noise; s keeps those small. Power 0 rotates only. The
    exponent p that deep-image-retrieval puts on the variances (0.25 by default) is power 2p: its default is power 0.5.
    The form of the shrinkage is this toolkit's.

    Args:
        vectors: float32 [N, D], N >= 2.
        dimension: dimensions kept, those of the largest variance; 0 keeps all.
        shrinkage: s, >= 0.
        power: from 0 to 1.

    Returns:
        The whitening.

    Raises:
        InputError: too few vectors or NaN among them, more dimensions wanted than there are, a negative shrinkage, or a
            power outside of [0, 1].
    """
    check_samples(vectors)
    check_options(vectors.shape[1], dimension, shrinkage, power=power)
    covariance, mean = total_scatter(vectors)
    variances, directions = np.linalg.eigh(covariance)
    scales = pca_scales(variances[::-1], shrinkage, power)
    projection = (directions[:, ::-1] * scales).T[: dimension or None]
    return _whitening(mean, projection, "pca", vectors, shrinkage, power=power)


def check_options(
    width: int, dimension: int, shrinkage: float, total_share: float = TOTAL_SHARE, power: float = 1.0
) -> None:
    """Checks what the fits to descriptors of `width` dimensions take.

    Raises:
        InputError: a value is out of its range.
    """
    if not 0 <= dimension <= width:
        raise InputError(f"--dimension={dimension}; 1 to {width} dimensions, or 0 for all, are wanted.")
    for name, value in (("shrinkage", shrinkage), ("total_share", total_share)):
        if not 0 <= value < math.inf:
            raise InputError(f"--{name}={value}; 0 or more is wanted.")
    if not 0 <= power <= 1:
        raise InputError(f"--power={power}; a number from 0 to 1 is wanted.")


def pca_scales(variances: np.ndarray, shrinkage: float, power: float = 1.0) -> np.ndarray:
    """Returns the factors of the principal directions, (l + s * mean of the 20 largest)^(-power/2).

    Args:
        variances: l, float64 [D]; negative ones count as 0.
        shrinkage: s, >= 0.
        power: from 0 to 1.
    """
    variances = np.maximum(variances, 0.0)
    # What rounding alone makes of a direction without variance; the smallest number where no photo differs.
    floor = np.finfo(np.float32).eps * variances.max() or np.finfo(np.float32).tiny
    return (variances + shrinkage * leading_variance(variances) + floor) ** (-power / 2)


def fit_pairs(
    vectors: np.ndarray, queries: np.ndarray, positives: np.ndarray, dimension: int = 0, shrinkage: float = SHRINKAGE
) -> Whitening:
    """Fits learned discriminative whitening (Lw) from matching pairs (q_i, p_i).

    m is the mean of the query descriptors, C_S = 1/n sum (q_i - p_i)(q_i - p_i)^T, and C the scatter of all descriptors
    around m. P satisfies P C_S P^T = I, with P C P^T diagonal and falling: the symmetric generalised eigenproblem
    C v = lambda C_S v. Source: Mikolajczyk, Matas, ICCV 2007; Radenovic, Tolias, Chum, TPAMI 2018, and, for C in place
    of the scatter of non-matching pairs, their code. Where C_S is not positive definite, 1e-10, then 1e-9, ... is added
    to its diagonal, as there.

    With few samples this blows up noise as plain PCA whitening does; s * (mean of the 20 largest eigenvalues of C_S),
    added to the diagonal of C_S, keeps it small. The shrinkage is this toolkit's; 0 is the published whitening.

    Args:
        vectors: float32 [N, D], N >= 2.
        queries: int [n], rows of the q_i, n >= 1.
        positives: int [n], rows of the p_i.
        dimension: dimensions kept, those of the largest lambda; 0 keeps all.
        shrinkage: s, >= 0.

    Returns:
        The whitening; `facts["jitter"]` is what was added to the diagonal, 0 in most cases.

    Raises:
        InputError: as `fit_pca`, or there are no pairs, pairs name other rows, or all pairs are of equal descriptors.
    """
    check_samples(vectors)
    check_options(vectors.shape[1], dimension, shrinkage)
    queries, positives = np.asarray(queries), np.asarray(positives)
    if not len(queries) or queries.shape != positives.shape:
        raise InputError(f"{len(queries)} queries and {len(positives)} positives are no pairs; one each is wanted.")
    for rows in (queries, positives):
        if rows.min() < 0 or rows.max() >= len(vectors):
            raise InputError(f"pairs name rows {rows.min()} to {rows.max()}; 0 to {len(vectors) - 1} are wanted.")
    mean = vectors[queries].mean(axis=0, dtype=np.float64)
    scatter, total = pair_and_total_scatter(vectors, queries, positives, mean)
    projection, jitter = equalise(_shrunk(scatter, shrinkage), total)
    facts = {"pairs": len(queries), "jitter": jitter}
    return _whitening(mean, projection[: dimension or None], "lw", vectors, shrinkage, **facts)


def fit_discriminative(
    vectors: np.ndarray,
    labels: np.ndarray,
    dimension: int = 0,
    shrinkage: float = SHRINKAGE,
    total_share: float = TOTAL_SHARE,
) -> Whitening:
    """Fits a whitening of the scatter within instances, shrunk towards the scatter of all descriptors.

    As `fit_pairs`, with C_W + t * C_T in place of C_S: C_W is the scatter of descriptors around their instance's mean,
    C_T the scatter of all around m, and m the mean of all. Learned whitening equalises the scatter of pairs alone, and
    needs many more samples than dimensions; t and s let it work with as many. The combination is this toolkit's.

    Args:
        vectors: float32 [N, D], N >= 2.
        labels: int [N], their instances; some have two or more photos.
        dimension: dimensions kept, those in which instances differ most; 0 keeps all.
        shrinkage: s, >= 0.
        total_share: t, >= 0.

    Returns:
        The whitening; `facts["jitter"]` as `fit_pairs`.

    Raises:
        InputError: as `fit_pca`, or no instance has two photos, or a negative share.
    """
    check_samples(vectors)
    check_options(vectors.shape[1], dimension, shrinkage, total_share)
    total, mean = total_scatter(vectors)
    scatter = _shrunk(within_scatter(vectors, labels) + total_share * total, shrinkage)
    projection, jitter = equalise(scatter, total)
    facts = {"instances": len(np.unique(labels)), "total_share": total_share, "jitter": jitter}
    return _whitening(mean, projection[: dimension or None], "discriminative", vectors, shrinkage, **facts)


def equalise(scatter: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, float]:
    """Solves total v = lambda scatter v by Cholesky and a symmetric eigendecomposition.

    With scatter = L L^T and the eigenvectors U of L^-1 total L^-T by falling eigenvalue, P = U^T L^-1.

    Args:
        scatter: float64 [D, D], symmetric.
        total: float64 [D, D], symmetric.

    Returns:
        P, float64 [D, D], with P scatter P^T = I and P total P^T diagonal and falling; and what was added to the
        diagonal of `scatter` to make it positive definite, 0.0 if nothing.

    Raises:
        InputError: `scatter` is 0.
    """
    if not scatter.any():
        raise InputError("matching photos have equal descriptors throughout; some that differ are wanted.")
    factor, jitter = _cholesky(scatter)
    _, directions = np.linalg.eigh(forward(factor, forward(factor, total).T))
    # P L = U^T: the transposed factor is lower triangular when read from its end.
    projection = forward(factor.T[::-1, ::-1], directions[::-1, ::-1])[::-1].T
    return projection, jitter


def forward(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solves factor x = right by halves, forward: NumPy has no solver for triangular matrices.

    With the general inverse in its place, a fit of 2048 dimensions takes 1.2 times as long.

    Args:
        factor: float64 [D, D], lower triangular, no 0 on the diagonal.
        right: float64 [D, K].

    Returns:
        float64 [D, K].
    """
    solved = np.array(right, order="C")
    _forward_in_place(factor, solved)
    return solved


def _forward_in_place(factor: np.ndarray, right: np.ndarray) -> None:
    if len(factor) <= _SMALL:
        right[:] = np.linalg.solve(factor, right)
        return
    half = len(factor) // 2
    _forward_in_place(factor[:half, :half], right[:half])
    right[half:] -= factor[half:, :half] @ right[:half]
    _forward_in_place(factor[half:, half:], right[half:])


def _cholesky(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the lower factor of a matrix, and the jitter that its diagonal needed."""
    jitter = 0.0
    while True:
        try:
            return np.linalg.cholesky(matrix + jitter * np.eye(len(matrix))), jitter
        except np.linalg.LinAlgError:
            jitter = 10 * jitter or _JITTER


def _shrunk(scatter: np.ndarray, shrinkage: float) -> np.ndarray:
    if not shrinkage:
        return scatter
    return scatter + shrinkage * leading_variance(np.linalg.eigvalsh(scatter)) * np.eye(len(scatter))


def _whitening(
    mean: np.ndarray, projection: np.ndarray, method: str, vectors: np.ndarray, shrinkage: float, **facts: object
) -> Whitening:
    head = {"method": method, "samples": len(vectors), "shrinkage": float(shrinkage)}
    dimensions = {"from": len(mean), "to": len(projection)}
    return Whitening(
        mean.astype(np.float32), projection.astype(np.float32), {**head, "dimensions": dimensions, **facts}
    )
