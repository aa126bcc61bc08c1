"""Two runs on one benchmark, query by query: how much they differ, and whether that may be chance."""

import dataclasses

import numpy as np

# Sign flips that are all tried, 2**20, instead of drawn.
_EXACT_QUERIES = 20
_DRAWN_AT_A_TIME = 2**22


@dataclasses.dataclass(frozen=True)
class PairedComparison:
    """How the second of two runs differs from the first, over the queries that both have a figure for.

    Attributes:
        queries: how many they are, n.
        first: mean figure of the first run.
        second: mean figure of the second.
        difference: second less first.
        interval: lower and upper end of the bootstrap interval of `difference`.
        confidence: of the interval.
        p_value: of the permutation test, two-sided; in (0, 1].
        exact: whether all permutations were tried.
        better: queries whose figure is higher in the second run.
        worse: queries whose figure is lower in it.
        equal: the others.
    """

    queries: int
    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    confidence: float
    p_value: float
    exact: bool
    better: int
    worse: int
    equal: int


def compare_paired(
    first: np.ndarray,
    second: np.ndarray,
    seed: int = 0,
    resamples: int = 10_000,
    permutations: int = 100_000,
    confidence: float = 0.95,
) -> PairedComparison:
    """Compares two runs by their figures for the same queries.

    The interval is the percentile bootstrap over queries (Efron, Tibshirani, "An Introduction to the Bootstrap",
    chapter 13): n queries are drawn with replacement, `resamples` times. The test is Fisher's randomisation test for
    pairs, which Smucker, Allan, Carterette (CIKM 2007) advise for retrieval: if the runs were alike, each query's
    difference could as well have the other sign; the p-value is the share of all sign patterns whose mean difference is
    at least as large. All patterns are tried where at most 20 queries differ; otherwise `permutations` are drawn and
    the observed one is counted with them, so that the p-value is never 0. With a seed, results repeat exactly.

    Args:
        first: float64 [Q], average precision of each query, say; NaN where it has none.
        second: float64 [Q], of the same queries.
        seed: of both draws.
        resamples: of the bootstrap.
        permutations: sign patterns drawn where not all are tried.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: the numbers of queries differ, or no query has a figure in both.
    """
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"figures of {first.shape} and {second.shape} queries; equal numbers are wanted.")
    both = ~(np.isnan(first) | np.isnan(second))
    if not both.any():
        raise ValueError("no query has a figure in both runs; one or more are wanted.")
    first, second = first[both].astype(np.float64), second[both].astype(np.float64)
    differences = second - first
    rng = np.random.default_rng(seed)
    interval = _bootstrap(differences, rng, resamples, confidence)
    p_value, exact = _permutation_test(differences, rng, permutations)
    return PairedComparison(
        queries=len(differences),
        first=float(first.mean()),
        second=float(second.mean()),
        difference=float(differences.mean()),
        interval=interval,
        confidence=confidence,
        p_value=p_value,
        exact=exact,
        better=int(np.sum(differences > 0)),
        worse=int(np.sum(differences < 0)),
        equal=int(np.sum(differences == 0)),
    )


def _bootstrap(differences: np.ndarray, rng: np.random.Generator, resamples: int, confidence: float):
    means = []
    for count in _parts(resamples, len(differences)):
        drawn = rng.integers(0, len(differences), (count, len(differences)))
        means.append(differences[drawn].mean(axis=1))
    outside = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [outside, 1 - outside])
    return float(low), float(high)


def _permutation_test(differences: np.ndarray, rng: np.random.Generator, permutations: int) -> tuple[float, bool]:
    """Returns the two-sided p-value of the sign-flip test, and whether it is exact; queries that agree have no sign."""
    moved = differences[differences != 0]
    # Sums of the same numbers in another order differ in their last bits and must still count as equal.
    least = abs(moved.sum()) - 1e-12 * np.abs(moved).sum()
    if len(moved) <= _EXACT_QUERIES:
        sums = np.zeros(1)
        for difference in moved:
            sums = np.concatenate([sums - difference, sums + difference])
        return float(np.mean(np.abs(sums) >= least)), True
    as_large = 0
    for count in _parts(permutations, len(moved)):
        signs = rng.integers(0, 2, (count, len(moved)), dtype=np.int8) * 2 - 1
        as_large += int(np.sum(np.abs(signs @ moved) >= least))
    return (as_large + 1) / (permutations + 1), False


def _parts(total: int, wide: int):
    """Yields counts that sum to `total`, each of which with `wide` numbers fits a few dozen MB."""
    most = max(1, _DRAWN_AT_A_TIME // wide)
    for start in range(0, total, most):
        yield min(most, total - start)
