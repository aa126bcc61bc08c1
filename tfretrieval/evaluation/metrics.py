"""Retrieval metrics, each under one name with one definition, over the ranks of one query's relevant photos.

`ranks` are 0-based, ascending, and counted after junk was taken out of the ranking. `relevant` is the number of
relevant photos in the whole database, found or not, R below.
"""

import numpy as np

SHARES = np.linspace(0.0, 1.0, 101)


def rectangular_ap(ranks: np.ndarray, relevant: int) -> float:
    """Average precision by rectangles: the mean over all relevant photos of the precision at their rank.

    `AP = 1 / R * sum_j (j + 1) / (ranks[j] + 1)`, j from 0. Relevant photos that a truncated ranking lacks add nothing
    and still count in R. Manning, Raghavan, Schuetze, Introduction to Information Retrieval, section 8.4. Benchmarks
    that use trapezoids (Oxford, revisited Oxford) give lower values for the same ranking.

    Args:
        ranks: int [H], H <= R.
        relevant: R >= 0.

    Returns:
        A number in [0, 1]; NaN where R is 0, as AP is undefined there.
    """
    if relevant == 0:
        return float("nan")
    return float(_precision_at_hits(ranks).sum() / relevant)


def first_relevant_rank(ranks: np.ndarray) -> int:
    """Returns the place of the first relevant photo, counted from 1; 0 where the ranking holds none."""
    return int(ranks[0]) + 1 if len(ranks) else 0


def recall_at(first_ranks: np.ndarray, k: int) -> float:
    """R@k: the share of queries with at least one relevant photo among the first k.

    Args:
        first_ranks: int [Q], `first_relevant_rank` of the queries that have a relevant photo in the database.
        k: 1 or more.

    Returns:
        A number in [0, 1]; NaN without queries.
    """
    if not len(first_ranks):
        return float("nan")
    return float(np.mean((first_ranks >= 1) & (first_ranks <= k)))


def precision_at_shares(ranks: np.ndarray, relevant: int) -> np.ndarray:
    """Best precision at which a share s of the relevant photos is found, for the shares in `SHARES`.

    `p(s) = max over j with (j + 1) / R >= s of (j + 1) / (ranks[j] + 1)`, and 0 where share s is never reached: the
    interpolated precision-recall curve of Manning et al., section 8.4.

    Args:
        ranks: int [H], H <= R.
        relevant: R >= 1.

    Returns:
        float64 [101] in [0, 1], falling.
    """
    needed = np.maximum(-(-np.arange(len(SHARES)) * relevant // (len(SHARES) - 1)), 1)
    best = np.maximum.accumulate(_precision_at_hits(ranks)[::-1])[::-1]
    return np.concatenate([best, np.zeros(relevant - len(best))])[needed - 1]


def _precision_at_hits(ranks: np.ndarray) -> np.ndarray:
    return np.arange(1, len(ranks) + 1) / (ranks + 1.0)
