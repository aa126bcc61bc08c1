import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.search import exact
from tfretrieval.search.exact import TopK, search_top, similarity_blocks
from tfretrieval.search.ranking import exact_ranking


def whole_numbers(seed, count, dimension=8, most=3):
    """Vectors whose products are exact in float32 however they are summed, with many ties."""
    return np.random.default_rng(seed).integers(-most, most + 1, (count, dimension)).astype(np.float32)


def by_definition(queries, database, k, junk=None):
    """Sorted Python lists: larger similarity first, then lower row; junk last."""
    order, similarity = [], []
    for q, query in enumerate(queries):
        scores = [float(sum(a * b for a, b in zip(query.tolist(), row.tolist(), strict=True))) for row in database]
        for row in [] if junk is None else junk[q]:
            scores[row] = float("-inf")
        rows = sorted(range(len(database)), key=lambda row: (-scores[row], row))[:k]
        order.append(rows)
        similarity.append([scores[row] for row in rows])
    return order, similarity


@pytest.mark.parametrize("k", [1, 7, 60, 200, 500])
@pytest.mark.parametrize("rows", [1, 13, 64, 1000])
def test_kept_rows_are_those_of_sorted_lists_whatever_the_blocks(k, rows):
    queries, database = whole_numbers(0, 5), whole_numbers(1, 200)
    top = TopK(5, k)
    for first, block in similarity_blocks(queries, database, rows):
        assert block.dtype == np.float32 and block.shape == (5, min(rows, 200 - first))
        top.add(first, block)
    found = top.ranking()
    order, similarity = by_definition(queries, database, k)
    assert found.order.dtype == np.int32 and found.similarity.dtype == np.float32
    assert found.order.tolist() == order
    assert found.similarity.tolist() == similarity


def test_search_equals_the_full_stable_sort_also_of_queries_in_parts(monkeypatch):
    monkeypatch.setattr(exact, "_QUERIES_AT_A_TIME", 3)
    monkeypatch.setattr(exact, "_SCORES_AT_A_TIME", 100)
    queries, database = whole_numbers(2, 10), whole_numbers(3, 300)
    expected = exact_ranking(queries, database)
    for k in (1, 40, 300, 1000):
        found = search_top(queries, database, k)
        np.testing.assert_array_equal(found.order, expected.order[:, :k])
        np.testing.assert_array_equal(found.similarity, expected.similarity[:, :k])


def test_junk_comes_last_in_rising_order(monkeypatch):
    monkeypatch.setattr(exact, "_SCORES_AT_A_TIME", 60)
    queries, database = whole_numbers(4, 4), whole_numbers(5, 90)
    junk = [np.array([89, 3, 3]), np.zeros(0, np.int64), np.arange(90), np.array([0, 50])]
    for k in (5, 90):
        found = search_top(queries, database, k, junk=junk)
        order, similarity = by_definition(queries, database, k, junk)
        assert found.order.tolist() == order and found.similarity.tolist() == similarity


def test_equal_rows_of_a_database_of_copies_come_in_order():
    database = np.tile(np.eye(4, dtype=np.float32)[:1], (5000, 1))
    found = search_top(np.stack([database[0], np.zeros(4, np.float32), -database[0]]), database, 70)
    assert (found.order == np.arange(70)).all()


def test_keys_order_every_kind_of_number_and_come_back():
    values = np.array([-np.inf, -3.5, -1e-38, -1e-45, -0.0, 0.0, 1e-45, 1e-38, 2.0, np.inf], np.float32)
    rows = np.array([5, 2**31 - 2, 0, 1, 9, 3, 8, 7, 6, 4])
    keys = exact.rank_keys(values, rows)
    # -0 equals 0, so the lower row, that of 0, is better.
    assert np.argsort(keys).tolist() == list(range(10))
    back_rows, back = exact._rows_and_similarities(keys)
    assert back_rows.tolist() == rows.tolist() and back.tolist() == values.tolist()
    assert exact.rank_keys(values[4:5], np.array([3])) == exact.rank_keys(values[5:6], np.array([3]))


def test_memory_mapped_databases_and_no_queries(tmp_path):
    database = whole_numbers(6, 1000, 16)
    np.save(tmp_path / "vectors.npy", database)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    queries = whole_numbers(7, 6, 16)
    np.testing.assert_array_equal(search_top(queries, mapped, 20).order, search_top(queries, database, 20).order)
    assert search_top(queries[:0], mapped, 20).order.shape == (0, 20)


def test_later_blocks_below_the_threshold_are_not_merged(monkeypatch):
    merged = []
    merge = TopK._merge
    monkeypatch.setattr(
        TopK, "_merge", lambda self, queries, keys: merged.append(len(keys)) or merge(self, queries, keys)
    )
    top = TopK(2, 3)
    for first, block in [(0, [[5, 4, 3, 2], [1, 1, 1, 1]]), (4, [[3, 3], [1, 0]]), (9, [[0, 6], [0, 0]])]:
        top.add(first, np.array(block, np.float32))
    assert merged == [3 + 4, 1]  # of the first block all that reach the third best, ties included
    assert top.ranking().order.tolist() == [[10, 0, 1], [0, 1, 2]]


def test_progress_is_told_block_by_block(monkeypatch):
    monkeypatch.setattr(exact, "_SCORES_AT_A_TIME", 40)
    told = []

    def progress(items, description, total, unit):
        told.append((description, total, unit))
        return items

    search_top(whole_numbers(0, 4), whole_numbers(1, 35), 2, progress)
    assert told == [("search", 4, "block")]


@pytest.mark.parametrize(
    ("queries", "database", "k", "junk", "sentence"),
    [
        (np.zeros((2, 3), np.float64), np.zeros((4, 3), np.float32), 1, None, "queries are float64 of shape"),
        (np.zeros((2, 3), np.float32), np.zeros(3, np.float32), 1, None, "database are float32 of shape"),
        (np.zeros((2, 3), np.float32), np.zeros((4, 5), np.float32), 1, None, "3 dimensions and the database 5"),
        (np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32), 0, None, "0 most similar"),
        (np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32), 1, [[1]], "junk rows of 1 queries"),
        (np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32), 1, [[1], [4]], "junk row 4 is not in"),
        (np.full((2, 3), np.nan, np.float32), np.ones((4, 3), np.float32), 2, None, "row 0 is not a number"),
    ],
)
def test_what_cannot_be_searched_is_told(queries, database, k, junk, sentence):
    with pytest.raises(InputError, match=sentence):
        search_top(queries, database, k, junk=junk)


def test_a_later_row_that_is_not_a_number_is_told():
    database = np.ones((50, 3), np.float32)
    database[40] = np.nan
    top = TopK(1, 2)
    with pytest.raises(InputError, match="row 40 is not a number"):
        for first, block in similarity_blocks(np.ones((1, 3), np.float32), database, 10):
            top.add(first, block)


def test_blocks_must_rise_and_fit():
    top = TopK(2, 3)
    top.add(5, np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="row 10"):
        top.add(9, np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="block of 3 queries"):
        top.add(10, np.zeros((3, 5), np.float32))
    with pytest.raises(ValueError, match="k is 0"):
        TopK(2, 0)
