import numpy as np
import pytest

from tfretrieval.search.knn import neighbours
from tfretrieval.search.knn_tiles import merge, neighbours_in_tiles, tile_pairs
from tfretrieval.search.ranking import Ranking


def unit_vectors(count, dimension, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def in_tiles(database, k, tile_rows, rows_at_a_time):
    parts = {}
    for left, right in tile_pairs(len(database), tile_rows):
        found = neighbours_in_tiles(database, left, right, k, rows_at_a_time)
        parts.setdefault(left.start, []).append(found[0])
        if left != right:
            parts.setdefault(right.start, []).append(found[1])
    merged = [merge(parts[first], k) for first in sorted(parts)]
    return tuple(np.concatenate([getattr(part, name) for part in merged]) for name in ("order", "similarity"))


@pytest.mark.parametrize(("k", "tile_rows"), [(1, 32), (9, 64), (40, 32), (149, 96), (5, 512)])
def test_tiles_together_give_the_bits_of_one_search(k, tile_rows):
    database = unit_vectors(150, 24)
    expected = neighbours(database, k, rows_at_a_time=32)
    order, similarity = in_tiles(database, k, tile_rows, 32)
    assert order.dtype == np.int32 and similarity.dtype == np.float32
    np.testing.assert_array_equal(order, expected.order)
    np.testing.assert_array_equal(similarity.view(np.int32), expected.similarity.view(np.int32))


def test_of_equal_similarities_the_lower_row_comes_first_over_tiles_too():
    database = np.repeat(np.eye(3, dtype=np.float32), 7, axis=0)  # every photo has six copies
    order, _ = in_tiles(database, 8, 8, 4)
    for row, found in enumerate(order.tolist()):
        copies = [other for other in range(21) if other // 7 == row // 7 and other != row]
        others = [other for other in range(21) if other // 7 != row // 7]
        assert found == (copies + others)[:8]


def test_every_pair_of_tiles_comes_once():
    pairs = tile_pairs(10, 4)
    tiles = [range(0, 4), range(4, 8), range(8, 10)]
    assert pairs == [(tiles[a], tiles[b]) for a in range(3) for b in range(a, 3)]


def test_tiles_that_cut_blocks_are_refused():
    database = unit_vectors(20, 4)
    with pytest.raises(ValueError, match="multiples of 8"):
        neighbours_in_tiles(database, range(0, 8), range(12, 20), 3, 8)
    with pytest.raises(ValueError, match="rising"):
        neighbours_in_tiles(database, range(8, 16), range(0, 8), 3, 8)


def test_merging_sorts_by_similarity_and_then_row():
    one = Ranking(np.array([[4, 9]], np.int32), np.array([[0.5, 0.25]], np.float32))
    two = Ranking(np.array([[2, 1]], np.int32), np.array([[0.5, -0.5]], np.float32))
    found = merge([one, two], 3)
    assert found.order.tolist() == [[2, 4, 9]]
    assert found.similarity.tolist() == [[0.5, 0.5, 0.25]]
