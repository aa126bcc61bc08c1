import numpy as np
import pytest
import scipy.optimize

from tfretrieval.search.query_expansion import expand, separating_direction
from tfretrieval.search.reranking import parse_chain


def unit(seed, count, dimension=16):
    vectors = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ranked(query, database):
    """All rows by falling product, computed in float64."""
    scores = database.astype(np.float64) @ query
    return sorted(range(len(database)), key=lambda row: (-scores[row], row))


def expanded_by_loops(query, database, k, alpha, times):
    query = query.astype(np.float64)
    for _ in range(times):
        total = query.copy()
        for row in ranked(query, database)[:k]:
            product = sum(a * b for a, b in zip(query, database[row].astype(np.float64), strict=True))
            total += max(product, 0.0) ** alpha * database[row].astype(np.float64)
        query = total / np.sqrt(sum(value**2 for value in total))
    return query


@pytest.mark.parametrize(
    ("chain", "k", "alpha", "times"),
    [
        ("aqe:k=7,alpha=3", 7, 3, 1),
        ("aqe:k=7,alpha=0.5", 7, 0.5, 1),
        ("aqe:k=400,alpha=1", 400, 1, 1),  # similarities below 0 weigh nothing
        ("aqe:k=5,alpha=2,times=3", 5, 2, 3),
        ("qe:k=6", 6, 0, 1),
        ("qe:k=4,times=2", 4, 0, 2),
    ],
)
def test_expanded_queries_are_those_of_loops(chain, k, alpha, times):
    queries, database = unit(0, 6), unit(1, 500)
    found = parse_chain(chain).candidates(queries, database)
    for q, query in enumerate(queries):
        expected = expanded_by_loops(query, database, k, alpha, times)
        np.testing.assert_allclose(found.queries[q], expected, atol=2e-6)
        assert found.ranking.order[q].tolist() == ranked(found.queries[q].astype(np.float64), database)


def test_alpha_expansion_by_hand():
    # Weights 1, 0.6^2 and 0 (negative): (1, 0) + 0.36 (0.6, 0.8).
    found = expand(np.array([1, 0], np.float32), np.array([[0.6, 0.8], [-0.8, 0.6]], np.float32), 2.0)
    np.testing.assert_allclose(found, np.array([1.216, 0.288]) / np.hypot(1.216, 0.288), rtol=1e-6)


def by_the_dual(positives, negatives, c):
    """The support-vector machine's dual problem, by a general solver."""
    vectors = np.concatenate([positives, negatives]).astype(np.float64)
    y = np.repeat([1.0, -1.0], [len(positives), len(negatives)])
    gram = (vectors @ vectors.T) * np.outer(y, y)
    solved = scipy.optimize.minimize(
        lambda a: a @ gram @ a / 2 - a.sum(),
        np.zeros(len(y)),
        jac=lambda a: gram @ a - 1,
        bounds=[(0, c)] * len(y),
        constraints={"type": "eq", "fun": lambda a: a @ y, "jac": lambda a: y},
        options={"maxiter": 1000, "ftol": 1e-14},
        method="SLSQP",
    )
    assert solved.success
    direction = (solved.x * y) @ vectors
    return direction / np.linalg.norm(direction)


@pytest.mark.parametrize("c", [0.1, 1.0, 10.0])
def test_the_linear_classifier_solves_its_dual(c):
    positives, negatives = unit(2, 6) + 0.3, unit(3, 20)
    np.testing.assert_allclose(
        separating_direction(positives, negatives, c), by_the_dual(positives, negatives, c), atol=1e-4
    )


def test_discriminative_expansion_takes_the_first_and_the_last():
    queries, database = unit(4, 3), unit(5, 300)
    found = parse_chain("dqe:k=5,negatives=25,c=2").candidates(queries, database)
    for q, query in enumerate(queries):
        order = ranked(query.astype(np.float64), database)
        positives = np.concatenate([query[None], database[order[:5]]])
        np.testing.assert_allclose(found.queries[q], by_the_dual(positives, database[order[-25:]], 2.0), atol=1e-4)


def test_discriminative_expansion_of_few_photos_leaves_the_query_where_there_are_no_negatives():
    queries, database = unit(4, 2), unit(5, 4)
    found = parse_chain("dqe:k=4,negatives=9").candidates(queries, database)
    np.testing.assert_array_equal(found.queries, queries)
    some = parse_chain("dqe:k=2,negatives=9").candidates(queries, database)
    order = ranked(queries[0].astype(np.float64), database)
    positives = np.concatenate([queries[:1], database[order[:2]]])
    np.testing.assert_allclose(some.queries[0], by_the_dual(positives, database[order[2:]], 1.0), atol=1e-4)
