"""Retrieval metrics, each under one name with one definition, over the ranks of one query's relevant photos.

`ranks` are 0-based, ascending, and counted after junk was taken out of the ranking. `relevant` is the number of
relevant photos in the whole database, found or not, R below. One list of results has several average precisions in the
literature: with hits at 0-based ranks 1, 3, 6 and R = 4, `trapezoidal_ap` is 0.2619 and `rectangular_ap` 0.3571. A
metric that is not defined for a query (R is 0) is NaN.
"""

import numpy as np

SHARES = np.linspace(0.0, 1.0, 101)


def trapezoidal_ap(ranks: np.ndarray, relevant: int) -> float:
    """Average precision by trapezoids: the area under the precision-recall curve drawn with straight lines.

    `AP = 1 / R * sum_j (p0_j + p1_j) / 2`, j from 0, where `p1_j = (j + 1) / (ranks[j] + 1)` is the precision at the
    j-th relevant photo and `p0_j = j / ranks[j]` that just before it, 1 where the photo comes first. Relevant photos
    that a truncated ranking lacks add nothing and still count in R (some code divides by those found instead, which is
    higher). Philbin et al., CVPR 2007, and its `compute_ap`; Jegou et al., ECCV 2008 (Holidays); Radenovic et al., CVPR
    2018 (revisited Oxford and Paris).

    Args:
        ranks: int [H], H <= R.
        relevant: R >= 0.

    Returns:
        A number in [0, 1]; NaN where R is 0. Ranks that are equal, which faulty ground truth can cause (a photo listed
        as relevant and as junk), are taken as they are and may give more than 1.
    """
    if relevant == 0:
        return float("nan")
    before = np.arange(len(ranks)) / np.maximum(ranks, 1)
    before[ranks == 0] = 1.0
    return float((before + _precision_at_hits(ranks)).sum() / 2 / relevant)


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


def ap_at(ranks: np.ndarray, relevant: int, k: int) -> float:
    """AP@k: rectangular average precision of the first k photos, over the most that these can hold.

    `AP@k = 1 / min(R, k) * sum over ranks[j] < k of (j + 1) / (ranks[j] + 1)`. Weyand et al., "Google Landmarks Dataset
    v2", CVPR 2020, with k = 100.

    Args:
        ranks: int [H], H <= R.
        relevant: R >= 0.
        k: 1 or more.

    Returns:
        A number in [0, 1]; NaN where R is 0.
    """
    if relevant == 0:
        return float("nan")
    return float(_precision_at_hits(ranks[ranks < k]).sum() / min(relevant, k))


def ap_at_r(ranks: np.ndarray, relevant: int) -> float:
    """AP@R, whose mean is MAP@R: `ap_at` with k = R. Musgrave, Belongie, Lim, ECCV 2020.

    Args:
        ranks: int [H], H <= R.
        relevant: R >= 0.

    Returns:
        A number in [0, 1]; NaN where R is 0.
    """
    return ap_at(ranks, relevant, relevant)


def r_precision(ranks: np.ndarray, relevant: int) -> float:
    """R-precision: the share of relevant photos among the first R. Manning et al., section 8.4.

    Args:
        ranks: int [H], H <= R.
        relevant: R >= 0.

    Returns:
        A number in [0, 1]; NaN where R is 0.
    """
    return precision_at(ranks, relevant, relevant)


def precision_at(ranks: np.ndarray, relevant: int, k: int) -> float:
    """P@k the plain way: relevant photos among the first k, over k, however few the relevant or the ranked are.

    Args:
        ranks: int [H], H <= R.
        relevant: R >= 0.
        k: 1 or more.

    Returns:
        A number in [0, 1]; NaN where R is 0.
    """
    if relevant == 0:
        return float("nan")
    return float(np.sum(ranks < k) / k)


def revisited_precision_at(ranks: np.ndarray, relevant: int, k: int) -> float:
    """P@k the way of revisited Oxford and Paris: k shrinks to the place of the last relevant photo found.

    With `k' = min(k, ranks[-1] + 1)`, relevant photos among the first k' over k': a query whose last relevant photo is
    second has its P@10 over 2. From the benchmark's published code (Radenovic et al., CVPR 2018), which fails where a
    truncated ranking holds no relevant photo; the precision is 0 there (this toolkit's own).

    Args:
        ranks: int [H], H <= R.
        relevant: R >= 0.
        k: 1 or more.

    Returns:
        A number in [0, 1]; NaN where R is 0.
    """
    if relevant == 0:
        return float("nan")
    if not len(ranks):
        return 0.0
    shrunk = min(k, int(ranks[-1]) + 1)
    return float(np.sum(ranks < shrunk) / shrunk)


def ns_score(ranks: np.ndarray, relevant: int) -> float:
    """N-S score: relevant photos among the first four. Nister, Stewenius, CVPR 2006 (UKBench).

    UKBench's query is one of its object's four photos, is in the database, and counts.

    Args:
        ranks: int [H], H <= R.
        relevant: R >= 0.

    Returns:
        A number in [0, 4]; NaN where R is 0.
    """
    if relevant == 0:
        return float("nan")
    return float(np.sum(ranks < 4))


def mean_rank(ranks: np.ndarray, relevant: int) -> float:
    """Mean place, counted from 1, of the relevant photos that the ranking holds.

    Args:
        ranks: int [H], H <= R.
        relevant: R >= 0.

    Returns:
        A number from 1; NaN where R is 0, and where not all relevant photos are ranked, as the mean is unknown there.
    """
    if relevant == 0 or len(ranks) < relevant:
        return float("nan")
    return float(np.mean(ranks) + 1)


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
