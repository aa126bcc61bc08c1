"""A map of descriptors: photos as points of a plane, near each other where their descriptors are."""

import dataclasses

import numpy as np

MAX_POINTS = 4000
_COMPONENTS = 50
_PERPLEXITY = 30.0
_FEWEST = 5


@dataclasses.dataclass(frozen=True, eq=False)
class DescriptorMap:
    """Points of queries and database photos.

    Attributes:
        query_rows: int64 [P], the queries that are on the map.
        query_points: float32 [P, 2] in [0, 1].
        database_rows: int64 [R], the database photos that are on it.
        database_points: float32 [R, 2] in [0, 1].
        method: how it was made, a sentence.
        counts: queries and database photos that there are.
    """

    query_rows: np.ndarray
    query_points: np.ndarray
    database_rows: np.ndarray
    database_points: np.ndarray
    method: str
    counts: tuple[int, int]


def descriptor_map(
    queries: np.ndarray, database: np.ndarray, most: int = 1500, wanted: np.ndarray | None = None, seed: int = 0
) -> DescriptorMap | None:
    """Places photos in a plane by t-SNE of their descriptors' principal components.

    Of more photos than `most`, up to a third of the points are queries; database photos are those `wanted`, then others
    by chance. Two photos of equal descriptors lie beside each other, but distances on the map mean little: t-SNE (van
    der Maaten, Hinton, "Visualizing Data using t-SNE", JMLR 2008) keeps neighbourhoods, not lengths. It is
    scikit-learn's, begun at the first two components, so that equal input and seed give equal points on one machine.

    Args:
        queries: float32 [Q, D], L2-normalised.
        database: float32 [N, D], L2-normalised; may be a memory map, of which only the chosen rows are read.
        most: points at most, 0 to `MAX_POINTS`.
        wanted: rows of the database that the map should hold first, those that strips show say.
        seed: of the choice and of t-SNE.

    Returns:
        The map; None where fewer than five photos are there or wanted.

    Raises:
        ValueError: `most` is out of range.
    """
    if not 0 <= most <= MAX_POINTS:
        raise ValueError(f"most is {most}; 0 to {MAX_POINTS} is wanted.")
    rng = np.random.default_rng(seed)
    query_rows = _chosen(rng, len(queries), max(most // 3, most - len(database)), np.empty(0, np.int64))
    first = np.empty(0, np.int64) if wanted is None else np.unique(wanted)
    database_rows = _chosen(rng, len(database), most - len(query_rows), first)
    vectors = np.concatenate([queries[query_rows], database[database_rows]]).astype(np.float32)
    if len(vectors) < _FEWEST:
        return None
    points, method = _projected(vectors, seed)
    split = len(query_rows)
    return DescriptorMap(
        query_rows, points[:split], database_rows, points[split:], method, (len(queries), len(database))
    )


def _chosen(rng: np.random.Generator, count: int, most: int, first: np.ndarray) -> np.ndarray:
    """Returns at most `most` rows of `count`, rising: of `first`, then by chance."""
    if count <= most:
        return np.arange(count)
    kept = first if len(first) <= most else rng.choice(first, most, replace=False)
    others = np.setdiff1d(np.arange(count), kept, assume_unique=True)
    return np.sort(np.concatenate([kept, rng.choice(others, most - len(kept), replace=False)]))


def _projected(vectors: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Returns the points, float32 [P, 2] in [0, 1], and how they were made."""
    # scikit-learn takes a second to import, and only pages need it.
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    components = min(_COMPONENTS, len(vectors) - 1, vectors.shape[1])
    reduced = vectors - vectors.mean(axis=0)
    kept = 1.0
    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    # One thread: points then do not depend on the number of cores; on a busy machine it was six times as fast as two.
    with threadpool_limits(1):
        if components < vectors.shape[1]:
            pca = PCA(components, svd_solver="randomized", random_state=seed).fit(reduced)
            kept, reduced = float(pca.explained_variance_ratio_.sum()), pca.transform(reduced)
        # Photos that are all alike have no direction to begin at.
        begin = "pca" if reduced.shape[1] > 1 and reduced[:, :2].std(axis=0).min() > 1e-9 else "random"
        tsne = TSNE(2, perplexity=perplexity, init=begin, random_state=seed, learning_rate="auto")
        points = tsne.fit_transform(np.ascontiguousarray(reduced, np.float32)).astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - low) / np.maximum(high - low, 1e-12)
    method = (
        f"t-SNE of scikit-learn, perplexity {perplexity:g}, seed {seed}, on the first {components} principal "
        f"components ({kept:.0%} of the variance)."
    )
    return points.astype(np.float32), method
