import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.evaluation import counting
from tfretrieval.evaluation.counting import NOT_RANKED, count_places, places_in
from tfretrieval.search.exact import similarity_blocks
from tfretrieval.search.ranking import Ranking, exact_ranking

LIMITS = (
    "_ROWS_AT_A_TIME",
    "_QUERIES_AT_A_TIME",
    "_KEPT_SIMILARITIES",
    "_FEW_QUERIES",
    "_LISTED_AT_A_TIME",
    "_MOST_BUCKETS",
)


def ranked(similarity):
    """Each query's rows, sorted by falling similarity and rising row: one list a query."""
    return [sorted(range(len(row)), key=lambda at: (-row[at], at)) for row in similarity.tolist()]


def some_rows(rng, count, most):
    return np.sort(rng.permutation(count)[: rng.integers(0, min(count, most) + 1)])


def check(queries, database, rows, junk, top, similarity):
    places, best = count_places(queries, database, rows, top, junk)
    for query, order in enumerate(ranked(similarity)):
        assert places.places[query].tolist() == [order.index(row) for row in rows[query].tolist()]
        wanted = [row for row in order if row not in set(junk[query].tolist())][:top]
        assert best.order[query, : len(wanted)].tolist() == wanted
        np.testing.assert_array_equal(best.similarity[query, : len(wanted)], similarity[query, wanted])


@pytest.mark.parametrize("seed", range(120))
def test_places_are_those_of_a_sort_with_ties_in_any_blocks(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    count, many = int(rng.integers(1, 250)), int(rng.integers(1, 8))
    limits = (
        rng.integers(1, count + 1),
        rng.integers(1, many + 1),
        rng.integers(0, many * count + 1),
        rng.integers(0, 5),
    )
    for name, value in zip(LIMITS, (*limits, rng.integers(1, 40), [1, 100, 4096][seed % 3]), strict=True):
        monkeypatch.setattr(counting, name, int(value))
    database = rng.integers(-1, 2, (count, 3)).astype(np.float32)
    queries = rng.integers(-1, 2, (many, 3)).astype(np.float32)
    if seed % 4 == 0:
        database[rng.integers(0, count)] *= 1e6  # one similarity far from all others
    rows = [some_rows(rng, count, 40) for _ in range(many)]
    junk = [own[rng.random(len(own)) < 0.5] for own in rows]
    check(queries, database, rows, junk, min(5, count), queries @ database.T)


@pytest.mark.parametrize("seed", range(5))
def test_one_number_decides_for_each_pair_so_that_near_ties_are_exact(seed, monkeypatch):
    """Rows that differ in their last bits, where another product's rounding would change places."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(counting, "_ROWS_AT_A_TIME", 64)
    monkeypatch.setattr(counting, "_KEPT_SIMILARITIES", 5 * 64 * 2)
    base = rng.normal(size=(1, 300)).astype(np.float32)
    database = base + 1e-7 * rng.normal(size=(400, 300)).astype(np.float32)
    queries = rng.normal(size=(5, 300)).astype(np.float32)
    similarity = np.concatenate([block.copy() for _, block in similarity_blocks(queries, database, 64)], axis=1)
    assert min(len(np.unique(row)) for row in similarity) < 400
    rows = [np.sort(rng.permutation(400)[:60]) for _ in queries]
    check(queries, database, rows, [own[::2] for own in rows], 10, similarity)


def test_everything_equal_is_ranked_by_row():
    same = np.ones((50, 2), np.float32)
    rows = [np.array([0, 7, 49])]
    places, best = count_places(same[:1], same, rows, 3, [np.array([0])])
    assert places.places[0].tolist() == [0, 7, 49]
    assert best.order.tolist() == [[1, 2, 3]]


@pytest.mark.filterwarnings("ignore:.*encountered in matmul")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_similarities_that_are_no_numbers_come_last(value):
    database = np.array([[value], [1], [value], [2]], np.float32)
    places, best = count_places(np.zeros((1, 1), np.float32), database, [np.arange(4)], 4, [np.empty(0, int)])
    assert places.places[0].tolist() == [2, 0, 3, 1]  # 0 * inf is not a number either
    assert best.order.tolist() == [[1, 3, 0, 2]]


@pytest.mark.filterwarnings("ignore:.*encountered in matmul")
def test_infinite_similarities_keep_their_order():
    database = np.array([[3e38], [1], [-3e38], [2], [3e38], [-3e38]], np.float32)
    rows = [np.array([0, 1, 2, 5])]
    places, _ = count_places(np.full((1, 1), 10, np.float32), database, rows, 0, [np.empty(0, int)])
    assert places.places[0].tolist() == [0, 3, 4, 5]


def test_negative_zero_equals_zero():
    database = np.array([[-1.0, 0], [1, 0], [-1, 0]], np.float32)
    similarity = (np.zeros((1, 2), np.float32) @ database.T)[0]
    places, _ = count_places(np.zeros((1, 2), np.float32), database, [np.array([1])], 0, [np.empty(0, int)])
    assert places.places[0].tolist() == [1], similarity


def test_a_memory_mapped_database_and_threads_change_nothing(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    database = rng.normal(size=(3000, 16)).astype(np.float32)
    queries = rng.normal(size=(20, 16)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", database)
    rows = [np.sort(rng.permutation(3000)[:100]) for _ in queries]
    plain = count_places(queries, database, rows, 10, rows)
    monkeypatch.setattr(counting, "_WORTH_THREADS", 1)
    mapped = count_places(queries, np.load(tmp_path / "vectors.npy", mmap_mode="r"), rows, 10, rows)
    for one, other in zip(plain[0].places, mapped[0].places, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(plain[1].order, mapped[1].order)


def test_blocks_are_computed_twice_only_where_they_do_not_fit(monkeypatch):
    computed = []

    def counted(queries, database, rows):
        for first, block in similarity_blocks(queries, database, rows):
            computed.append(block.shape[1])
            yield first, block

    monkeypatch.setattr(counting, "similarity_blocks", counted)
    monkeypatch.setattr(counting, "_ROWS_AT_A_TIME", 10)
    vectors = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    everywhere, nothing = [np.arange(0, 100, 5)], [np.empty(0, int)]
    count_places(vectors[:1], vectors, everywhere, 5, nothing)
    assert computed == [10] * 10
    computed.clear()
    monkeypatch.setattr(counting, "_KEPT_SIMILARITIES", 30)
    count_places(vectors[:1], vectors, everywhere, 5, nothing)
    assert computed == [10] * 17
    computed.clear()
    count_places(vectors[:1], vectors, [np.array([1, 2, 12])], 5, nothing)  # listed rows stand close together
    assert computed == [10] * 10


def test_rows_are_looked_up_in_a_given_ranking():
    ranking = Ranking(np.array([[4, 2, 0], [1, 3, 4]], np.int32), np.zeros((2, 3), np.float32))
    found = places_in(ranking, [np.array([0, 3, 4]), np.array([4])], 5)
    assert [own.tolist() for own in found.places] == [[2, NOT_RANKED, 0], [2]]
    assert found.of(0, np.array([0, 3, 4])).tolist() == [0, 2]
    assert found.of(0, np.array([3])).tolist() == []


def test_counted_places_are_those_of_the_exact_ranking():
    rng = np.random.default_rng(2)
    vectors = rng.integers(-2, 3, (90, 4)).astype(np.float32)
    rows = [np.arange(90)] * 90
    counted, _ = count_places(vectors, vectors, rows, 0, [np.empty(0, int)] * 90)
    looked_up = places_in(exact_ranking(vectors, vectors), rows, 90)
    np.testing.assert_array_equal(np.array(counted.places), np.array(looked_up.places))


def test_descriptors_of_other_kinds_are_refused():
    vectors = np.zeros((3, 2))
    with pytest.raises(InputError, match="float32"):
        count_places(vectors, vectors, [np.array([0])] * 3, 1, [np.array([])] * 3)
