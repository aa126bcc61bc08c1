import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.search.knn import neighbours, neighbours_of


def whole_numbers(seed, count, dimension=8):
    """Vectors whose products are exact in float32 however they are summed, with many ties."""
    return np.random.default_rng(seed).integers(-3, 4, (count, dimension)).astype(np.float32)


def by_definition(database, k):
    """Each row's others, sorted: larger product first, then lower row."""
    order = []
    for row in range(len(database)):
        scores = (database.astype(np.float64) @ database[row]).tolist()
        order.append(
            sorted((other for other in range(len(database)) if other != row), key=lambda r: (-scores[r], r))[:k]
        )
    return order


@pytest.mark.parametrize("k", [1, 10, 60, 500])
@pytest.mark.parametrize("rows", [7, 50, 64, 4096])
def test_neighbours_are_those_of_sorted_lists_whatever_the_blocks(k, rows):
    database = whole_numbers(0, 150)
    found = neighbours(database, k, rows_at_a_time=rows)
    order = by_definition(database, k)
    assert found.order.dtype == np.int32 and found.order.tolist() == order
    exact = np.einsum("nd,nkd->nk", database, database[found.order])
    np.testing.assert_array_equal(found.similarity, exact)


def test_a_mapped_database_its_copies_and_single_rows(tmp_path):
    database = np.repeat(whole_numbers(1, 40, 16), 3, axis=0)  # a copy is a neighbour, the row itself is not
    np.save(tmp_path / "vectors.npy", database)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    expected = by_definition(database, 12)
    assert neighbours(mapped, 12, rows_at_a_time=32).order.tolist() == expected
    rows = np.array([5, 119, 0, 5])
    assert neighbours_of(rows, mapped, 12).order.tolist() == [expected[row] for row in rows]


def test_the_same_call_gives_the_same_bits_also_of_real_numbers():
    vectors = np.random.default_rng(2).normal(size=(300, 33)).astype(np.float32)
    first, second = (neighbours(vectors, 20, rows_at_a_time=64) for _ in range(2))
    np.testing.assert_array_equal(first.order, second.order)
    np.testing.assert_array_equal(first.similarity, second.similarity)


def test_progress_counts_pairs_of_blocks():
    told = []

    def progress(items, description, total, unit):
        told.append((description, total, unit, len(items)))
        return items

    neighbours(whole_numbers(3, 50), 2, progress, rows_at_a_time=20)
    assert told == [("neighbours", 6, "block", 6)]


def test_what_cannot_be_searched_is_told():
    with pytest.raises(InputError, match="0 neighbours among 5"):
        neighbours(whole_numbers(0, 5), 0)
    with pytest.raises(InputError, match="3 neighbours among 1 database"):
        neighbours_of(np.array([0]), whole_numbers(0, 1), 3)
    with pytest.raises(InputError, match="float64"):
        neighbours(np.zeros((5, 2)), 1)
    broken = whole_numbers(0, 50)
    broken[30] = np.nan
    with pytest.raises(InputError, match="is not a number"):
        neighbours(broken, 3, rows_at_a_time=16)
