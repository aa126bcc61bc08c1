"""Generated descriptors and judgements in the size of a benchmark, for measurements without its photos."""

from pathlib import Path

import numpy as np

from tfretrieval.data.judgements import QueryJudgement

_ROWS_AT_A_TIME = 65_536


def write_vectors(path: str | Path, rows: int, dimension: int, seed: int) -> np.ndarray:
    """Writes unit vectors, float32 [rows, dimension], in chunks, and returns them memory-mapped.

    A file that is there with that shape is taken for the same.
    """
    path = Path(path)
    if path.is_file() and np.load(path, mmap_mode="r").shape == (rows, dimension):
        return np.load(path, mmap_mode="r")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npy")
    vectors = np.lib.format.open_memmap(partial, "w+", np.float32, (rows, dimension))
    for start in range(0, rows, _ROWS_AT_A_TIME):
        wanted = min(_ROWS_AT_A_TIME, rows - start)
        chunk = np.random.default_rng((seed, start)).standard_normal((wanted, dimension), dtype=np.float32)
        vectors[start : start + wanted] = chunk / np.linalg.norm(chunk, axis=1, keepdims=True)
    vectors.flush()
    partial.replace(path)
    return np.load(path, mmap_mode="r")


def judge(queries: int, rows: int, seed: int, listed: int = 200) -> list[QueryJudgement]:
    """Returns judgements: of each query `listed` of the first `rows` rows, dealt to easy, hard and junk by chance."""
    rng = np.random.default_rng(seed)
    judgements = []
    for _ in range(queries):
        drawn, grades = rng.choice(rows, listed, replace=False), rng.integers(0, 3, listed)
        judgements.append(QueryJudgement(*(tuple(drawn[grades == grade].tolist()) for grade in range(3))))
    return judgements


def find_queries(vectors: np.ndarray, judgements: list[QueryJudgement], seed: int) -> np.ndarray:
    """Returns unit vectors, float32 [Q, D], that lean towards their relevant rows, as a trained network's do."""
    rng = np.random.default_rng(seed)
    queries = []
    for judgement in judgements:
        right = np.asarray(vectors[sorted(judgement.easy + judgement.hard)])
        towards = (rng.uniform(0, 1.6, len(right)) ** 8).astype(np.float32) @ right  # few lean much, many little
        noise = rng.standard_normal(vectors.shape[1], dtype=np.float32)
        query = towards / np.linalg.norm(towards) + 0.5 * noise / np.linalg.norm(noise)
        queries.append(query / np.linalg.norm(query))
    return np.array(queries, np.float32)
