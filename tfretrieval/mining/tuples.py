"""Training tuples: a query, a random positive, and the hardest negatives under the current network."""

from collections.abc import Callable

import numpy as np

from tfretrieval.errors import InputError


def hard_negatives(
    queries: np.ndarray, query_labels: np.ndarray, pool: np.ndarray, pool_labels: np.ndarray, count: int
) -> np.ndarray:
    """Finds each query's hardest negatives: the most similar photos of other instances, at most one per instance.

    This is N2 of Radenovic, Tolias, Chum, TPAMI 2018, with instances in the place of 3-D models.

    Args:
        queries: float32 [Q, D].
        query_labels: int [Q].
        pool: float32 [M, D].
        pool_labels: int [M].
        count: negatives for each query.

    Returns:
        int64 [Q, count], rows of the pool, hardest first; of equal similarity, the smaller instance label and the
        earlier photo come first.

    Raises:
        InputError: the pool has fewer than `count` other instances.
    """
    by_label = np.argsort(pool_labels, kind="stable")
    instances, starts = np.unique(pool_labels[by_label], return_index=True)
    others = len(instances) - np.isin(query_labels, instances).any()
    if others < count:
        raise InputError(
            f"--negatives={count} hard negatives from different instances are wanted, and the mining pool of "
            f"{len(pool)} photos has {others} other instances; lower --negatives or add instances."
        )
    ordered = pool[by_label]
    chosen = np.empty((len(queries), count), np.int64)
    for start in range(0, len(queries), 256):
        labels = query_labels[start : start + 256]
        scores = queries[start : start + 256] @ ordered.T
        hardest = np.maximum.reduceat(scores, starts, axis=1)
        hardest[labels[:, None] == instances[None, :]] = -np.inf
        nearest = np.argsort(-hardest, axis=1, kind="stable")[:, :count]
        for row in range(len(labels)):
            for place, instance in enumerate(nearest[row]):
                stop = starts[instance + 1] if instance + 1 < len(starts) else len(ordered)
                within = scores[row, starts[instance] : stop].argmax()
                chosen[start + row, place] = by_label[starts[instance] + within]
    return chosen


def draw_queries(labels: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws queries without repetition, and a random positive of the same instance for each.

    Args:
        labels: int [N].
        count: queries wanted; all photos that have a positive when there are fewer.
        rng: the random source.

    Returns:
        int64 [Q] queries and int64 [Q] positives, rows; a positive is never its query.
    """
    by_label = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[by_label], return_index=True, return_counts=True)
    place = np.empty(len(labels), np.int64)
    place[by_label] = np.arange(len(labels))
    group = np.repeat(np.arange(len(sizes)), sizes)[place]
    with_positive = np.flatnonzero(sizes[group] > 1)
    queries = rng.permutation(with_positive)[:count]
    step = 1 + rng.integers(0, sizes[group[queries]] - 1)
    first = starts[group[queries]]
    positives = by_label[first + (place[queries] - first + step) % sizes[group[queries]]]
    return queries, positives


def mine_tuples(
    labels: np.ndarray,
    describe: Callable[[np.ndarray], np.ndarray],
    queries: int,
    negatives: int,
    pool_size: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Mines an epoch's tuples.

    Args:
        labels: int [N], instances of the training photos.
        describe: gives descriptors under the current network: int64 [M] rows -> float32 [M, D].
        queries: tuples wanted; 0 makes every photo with a positive a query.
        negatives: hard negatives in each.
        pool_size: photos drawn as the pool of negatives; 0 takes all.
        rng: the random source; equal state and descriptors give equal tuples.

    Returns:
        int64 [Q, 2 + negatives] rows: query, positive, negatives from the hardest on.

    Raises:
        InputError: too few other instances in the pool.
    """
    chosen, positives = draw_queries(labels, queries or len(labels), rng)
    pool = np.arange(len(labels))
    if 0 < pool_size < len(pool):
        pool = np.sort(rng.choice(pool, pool_size, replace=False))
    needed = np.union1d(chosen, pool)
    vectors = describe(needed)
    query_vectors, pool_vectors = vectors[np.searchsorted(needed, chosen)], vectors[np.searchsorted(needed, pool)]
    found = hard_negatives(query_vectors, labels[chosen], pool_vectors, labels[pool], negatives)
    return np.concatenate([chosen[:, None], positives[:, None], pool[found]], axis=1)
