"""Look-up of the most similar rows inside a TensorFlow graph, in its plain operations: exact, int8, or product codes.

All three score by dot product and put the higher score first; of equal scores the lower row comes first, as in
`tfretrieval.search`.
"""

import dataclasses

import numpy as np
import sklearn.cluster
import tensorflow as tf
import threadpoolctl

from tfretrieval.errors import InputError

_CODES = 256  # of a part: one byte
_PARTS_OF = 8  # dimensions that one byte stands for, where --index_bytes does not say
_ROWS_AT_A_TIME = 1 << 16
_RECALL_QUERIES = 256


@dataclasses.dataclass(frozen=True)
class IndexSettings:
    """The index that an export searches; `export.saved_model` has a flag for each.

    Attributes:
        index: Saved descriptors (output of pipelines.extract) that the signature search looks through; none by default.
        index_kind: How they are kept.
        index_bytes: With --index_kind=pq: bytes of a descriptor; a byte for each 8 dimensions when not given.
    """

    index: str | None = None
    index_kind: str = dataclasses.field(default="exact", metadata={"choices": ("exact", "int8", "pq")})
    index_bytes: int = 0

    def __post_init__(self):
        if self.index_kind not in INDEXES:
            raise InputError(f"--index_kind={self.index_kind} is unknown; one of {', '.join(INDEXES)} is wanted.")
        if self.index_bytes and self.index_kind != "pq":
            raise InputError(f"--index_bytes={self.index_bytes} is of --index_kind=pq; this is {self.index_kind}.")
        if self.index_bytes < 0:
            raise InputError(f"--index_bytes={self.index_bytes}; bytes, or 0 for one each 8 dimensions, are wanted.")
        if not self.index and (self.index_kind, self.index_bytes) != ("exact", 0):
            raise InputError("--index_kind or --index_bytes was given without --index.")


class ExactIndex(tf.Module):
    """All descriptors as they are.

    Args:
        vectors: float32 [N, D].
        settings: not used.
    """

    def __init__(self, vectors: np.ndarray, settings: IndexSettings):
        super().__init__(name="exact_index")
        self._vectors = tf.Variable(np.asarray(vectors), trainable=False, name="vectors")

    def scores(self, queries: tf.Tensor) -> tf.Tensor:
        """Returns the dot products with all rows: float32 [n, D] -> [n, N]."""
        return tf.matmul(queries, self._vectors, transpose_b=True)


class Int8Index(tf.Module):
    """Descriptors rounded to int8, with a scale for each row: a quarter of the memory.

    Args:
        vectors: float32 [N, D].
        settings: not used.
    """

    def __init__(self, vectors: np.ndarray, settings: IndexSettings):
        super().__init__(name="int8_index")
        largest = np.abs(vectors).max(axis=1, initial=0)
        scales = np.where(largest > 0, largest / np.float32(127), 1).astype(np.float32)
        values = np.rint(vectors / scales[:, None]).clip(-127, 127).astype(np.int8)
        self._values = tf.Variable(values, trainable=False, name="values")
        self._scales = tf.Variable(scales, trainable=False, name="scales")

    def scores(self, queries: tf.Tensor) -> tf.Tensor:
        """Returns the approximate dot products with all rows: float32 [n, D] -> [n, N]."""
        rows = tf.shape(self._values)[0]
        blocks = -(-rows // _ROWS_AT_A_TIME)
        found = tf.TensorArray(tf.float32, blocks, element_shape=[None, None], infer_shape=False)
        values = self._values.read_value()

        def compare(block: tf.Tensor, found: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            part = values[block * _ROWS_AT_A_TIME : (block + 1) * _ROWS_AT_A_TIME]
            # TensorArray.concat joins along the first axis.
            return block + 1, found.write(block, tf.matmul(tf.cast(part, tf.float32), queries, transpose_b=True))

        # One block of rows at a time is float32, so that the memory stays that of int8.
        _, found = tf.while_loop(lambda block, _: block < blocks, compare, (0, found), parallel_iterations=1)
        scores = tf.reshape(found.concat(), [rows, tf.shape(queries)[0]])
        return tf.transpose(scores) * self._scales


class ProductIndex(tf.Module):
    """Product codes: each part of a descriptor is the nearest of 256 centres, and one byte.

    Jegou, Douze, Schmid, "Product Quantization for Nearest Neighbor Search" (TPAMI 2011), section III.B, with dot
    products in place of distances: a query stays as it is, and its products with all centres are looked up by the
    codes. The centres are fitted to the indexed descriptors by mini-batch k-means.

    Args:
        vectors: float32 [N, D].
        settings: says the bytes of a descriptor.
    """

    def __init__(self, vectors: np.ndarray, settings: IndexSettings):
        super().__init__(name="product_index")
        parts = settings.index_bytes or max(1, vectors.shape[1] // _PARTS_OF)
        if parts > vectors.shape[1]:
            raise InputError(
                f"--index_bytes={parts} and the descriptors have {vectors.shape[1]} dimensions; at most as many are "
                "wanted."
            )
        width = -(-vectors.shape[1] // parts)
        self._padding = parts * width - vectors.shape[1]
        padded = np.pad(vectors, ((0, 0), (0, self._padding)))
        split = padded.reshape(len(vectors), parts, width).swapaxes(0, 1)  # [parts, N, width]
        centres, codes = zip(*map(_fit, split), strict=True)
        self._centres = tf.Variable(np.stack(centres), trainable=False, name="centres")  # [parts, codes, width]
        self._codes = tf.Variable(np.stack(codes), trainable=False, name="codes")  # uint8 [parts, N]

    def scores(self, queries: tf.Tensor) -> tf.Tensor:
        """Returns the approximate dot products with all rows: float32 [n, D] -> [n, N]."""
        parts, _, width = self._centres.shape
        count, rows = tf.shape(queries)[0], tf.shape(self._codes)[1]
        split = tf.reshape(tf.pad(queries, [[0, 0], [0, self._padding]]), [count, parts, width])
        products = tf.einsum("npw,pcw->pnc", split, self._centres)
        codes = self._codes.read_value()

        def add(part: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return part + 1, total + tf.gather(products[part], tf.cast(codes[part], tf.int32), axis=1)

        shapes = tf.TensorShape([]), tf.TensorShape([None, None])
        first = tf.constant(0), tf.zeros([count, rows])
        return tf.while_loop(lambda part, _: part < parts, add, first, shapes, parallel_iterations=1)[1]


INDEXES = {"exact": ExactIndex, "int8": Int8Index, "pq": ProductIndex}


def best(index: tf.Module, queries: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Searches an index.

    Args:
        index: one of `INDEXES`.
        queries: float32 [n, D].
        k: int32 scalar, rows wanted for each query, at least 1; all of them where the index has fewer.

    Returns:
        Rows int32 [n, K] and their scores float32 [n, K], best first; of equal scores the lower row first.
    """
    scores = index.scores(queries)
    found = tf.math.top_k(scores, tf.minimum(k, tf.shape(scores)[1]))
    return found.indices, found.values


def recall(index: tf.Module, vectors: np.ndarray, k: int = 10, seed: int = 0) -> dict:
    """Measures how much of the exact search an index finds.

    Up to 256 of the indexed descriptors, drawn by the seed, are the queries; a query's own row is left out of both
    results.

    Args:
        index: one of `INDEXES`, of these vectors.
        vectors: float32 [N, D].
        k: rows compared.
        seed: of the draw.

    Returns:
        `k`, rows compared (fewer where the index has fewer); `queries`; `recall`, the mean share of the exact k best
        rows that are among the index's k best, or None where there are no two rows.
    """
    k = min(k, len(vectors) - 1)
    if k < 1:
        return {"k": 0, "queries": 0, "recall": None}
    own = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:_RECALL_QUERIES])
    queries = tf.constant(np.asarray(vectors[own]))
    exact, found = (
        _without(own, best(each, queries, k + 1)[0].numpy())[:, :k]
        for each in (ExactIndex(vectors, IndexSettings()), index)
    )
    shares = [len(set(one) & set(other)) / k for one, other in zip(exact.tolist(), found.tolist(), strict=True)]
    return {"k": k, "queries": len(own), "recall": round(float(np.mean(shares)), 4)}


def _without(own: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Takes each query's own row out of int rows [n, K], or the last where it is not among them: [n, K - 1]."""
    is_own = rows == own[:, None]
    is_own[~is_own.any(axis=1), -1] = True
    return rows[~is_own].reshape(len(rows), -1)


def _fit(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits the centres of one part: float32 [N, width] -> float32 [256, width] and the codes uint8 [N]."""
    clusters = sklearn.cluster.MiniBatchKMeans(min(_CODES, len(part)), random_state=0, n_init=1, batch_size=4096)
    with threadpoolctl.threadpool_limits(1):  # sums in one order: the same codes every time
        clusters.fit(part)
        codes = clusters.predict(part)
    centres = np.zeros((_CODES, part.shape[1]), np.float32)
    centres[: len(clusters.cluster_centers_)] = clusters.cluster_centers_
    return centres, codes.astype(np.uint8)
