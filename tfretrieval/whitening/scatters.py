"""Scatter matrices of descriptors, summed in blocks so that memory-mapped ones of any number fit in memory."""

from collections.abc import Iterator

import numpy as np

from tfretrieval.errors import InputError

# Directions whose mean variance the shrinkage is measured against.
LEADING = 20
# Rows held as float64 at a time: 64 MB at 2048 dimensions.
_BLOCK = 4096


def check_samples(vectors: np.ndarray) -> None:
    """Checks descriptors that a whitening is to be fitted to.

    Raises:
        InputError: they are not [N, D] with N >= 2, or one of them holds NaN or infinity.
    """
    if vectors.ndim != 2:
        raise InputError(f"descriptors of shape {vectors.shape} were given to fit a whitening; [N, D] is wanted.")
    if len(vectors) < 2:
        raise InputError(f"{len(vectors)} descriptors were given to fit a whitening; two or more are wanted.")
    for rows in _blocks(len(vectors)):
        finite = np.isfinite(vectors[rows]).all(axis=1)
        if not finite.all():
            row = rows.start + int(np.argmin(finite))
            raise InputError(f"the descriptor in row {row} holds NaN or infinity; finite numbers are wanted.")


def total_scatter(vectors: np.ndarray, centre: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns the scatter of all descriptors, 1/N sum (x - m)(x - m)^T, and m.

    Args:
        vectors: float32 [N, D].
        centre: m, float64 [D]; the mean of the descriptors when not given.

    Returns:
        float64 [D, D] and float64 [D].
    """
    centre = vectors.mean(axis=0, dtype=np.float64) if centre is None else centre
    return _second_moment(vectors[rows] - centre for rows in _blocks(len(vectors))), centre


def within_scatter(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the scatter of descriptors around their instance's mean, divided by their number N.

    Args:
        vectors: float32 [N, D].
        labels: int [N], their instances; some have two or more photos.

    Returns:
        float64 [D, D].

    Raises:
        InputError: no instance has two photos, or labels and descriptors differ in number.
    """
    if len(labels) != len(vectors):
        raise InputError(f"{len(labels)} labels stand beside {len(vectors)} descriptors; one a descriptor is wanted.")
    instances, group, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.max() < 2:
        raise InputError(f"each of the {len(instances)} instances has one descriptor; two or more of some are wanted.")
    means = np.zeros((len(instances), vectors.shape[1]))
    for rows in _blocks(len(vectors)):
        np.add.at(means, group[rows], vectors[rows])
    means /= counts[:, None]
    return _second_moment(vectors[rows] - means[group[rows]] for rows in _blocks(len(vectors)))


def pair_scatter(vectors: np.ndarray, queries: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Returns the scatter of matching pairs, C_S = 1/n sum (q_i - p_i)(q_i - p_i)^T.

    Args:
        vectors: float32 [N, D].
        queries: int [n], rows of the q_i, n >= 1.
        positives: int [n], rows of the p_i.

    Returns:
        float64 [D, D].
    """
    return _second_moment(
        vectors[queries[rows]].astype(np.float64) - vectors[positives[rows]] for rows in _blocks(len(queries))
    )


def pair_and_total_scatter(
    vectors: np.ndarray, queries: np.ndarray, positives: np.ndarray, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns `pair_scatter` and `total_scatter`, both float64 [D, D], with half of the second's work where it can be.

    Where no photo is in two pairs, x x^T + y y^T = ((x - y)(x - y)^T + (x + y)(x + y)^T) / 2 gives the total of a pair
    from its difference, which C_S has summed already, and one more product.
    """
    within = pair_scatter(vectors, queries, positives)
    paired, pairs = np.concatenate([queries, positives]), len(queries)
    if len(np.unique(paired)) < 2 * pairs:
        return within, total_scatter(vectors, centre)[0]
    sums = _second_moment(
        vectors[queries[rows]] - centre + (vectors[positives[rows]] - centre) for rows in _blocks(pairs)
    )
    total = pairs / 2 * (within + sums)
    alone = np.delete(np.arange(len(vectors)), paired)
    if len(alone):
        total += len(alone) * _second_moment(vectors[alone[rows]] - centre for rows in _blocks(len(alone)))
    return within, total / len(vectors)


def leading_variance(variances: np.ndarray) -> float:
    """Returns the mean of the 20 largest variances, what a shrinkage of 1 adds to each."""
    return float(np.sort(variances)[::-1][:LEADING].clip(0).mean())


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))


def _second_moment(blocks: Iterator[np.ndarray]) -> np.ndarray:
    """Returns the mean of x x^T over the rows of float64 blocks."""
    total, count = 0.0, 0
    for block in blocks:
        total, count = total + block.T @ block, count + len(block)
    return total / count
