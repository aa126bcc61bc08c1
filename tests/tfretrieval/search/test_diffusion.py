import numpy as np
import pytest

from tfretrieval.search import diffusion, knn_graph
from tfretrieval.search.diffusion import Diffusion
from tfretrieval.search.knn import neighbours
from tfretrieval.search.knn_graph import Graph, Solver
from tfretrieval.search.reranking import parse_chain


def clustered(seed, count, dimension=16, clusters=25):
    """Descriptors in clusters, so that the graph has more than a few edges."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dimension))
    vectors = centres[np.arange(count) % clusters] + 0.8 * rng.normal(size=(count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


QUERIES, DATABASE = clustered(1, 6), clustered(0, 500)


def nearest_by_definition(database):
    """All rows by falling product with each row, itself first."""
    scores = database.astype(np.float64) @ database.T.astype(np.float64)
    np.fill_diagonal(scores, 9)
    return np.argsort(-scores, axis=1, kind="stable")


def dense_transition(database, k, gamma):
    """S by loops: mutual k nearest with the photo itself counted, powers, both degrees."""
    count, exact = len(database), database.astype(np.float64)
    nearest = [set(row[:k].tolist()) for row in nearest_by_definition(database)]
    affinity = np.zeros((count, count))
    for i in range(count):
        for j in nearest[i]:
            if i != j and i in nearest[j]:
                affinity[i, j] = max(exact[i] @ exact[j], 0) ** gamma
    degrees = affinity.sum(axis=1)
    scale = np.array([1 / np.sqrt(degree) if degree else 0 for degree in degrees])
    return scale[:, None] * affinity * scale[None, :]


def dense_solution(transition, alpha, support, source):
    part = transition[np.ix_(support, support)]
    return np.linalg.solve(np.eye(len(support)) - alpha * part, source)


def first_by_definition(query, database, junk=()):
    scores = database.astype(np.float64) @ query
    return [row for row in np.argsort(-scores, kind="stable") if row not in set(junk)]


def starting_weights(query, database, rows, gamma):
    return np.array([max(float(database[row].astype(np.float64) @ query), 0) ** gamma for row in rows])


def online_by_definition(transition, query, settings, junk=()):
    order = first_by_definition(query, DATABASE, junk)
    support = order[: settings["truncation"]]
    source = np.zeros(len(support))
    started = support[: settings["kq"]]
    source[: len(started)] = starting_weights(query, DATABASE, started, settings["gamma"])
    full = np.zeros(len(DATABASE))
    full[support] = dense_solution(transition, settings["alpha"], support, source)
    return full


def offline_by_definition(transition, query, settings, junk=()):
    nearest, full = nearest_by_definition(DATABASE), np.zeros(len(DATABASE))
    started = first_by_definition(query, DATABASE, junk)[: settings["kq"]]
    for row, weight in zip(started, starting_weights(query, DATABASE, started, settings["gamma"]), strict=True):
        support = [other for other in nearest[row][: settings["truncation"]] if other not in set(junk)]
        source = np.eye(1, len(support))[0]
        full[support] += weight * dense_solution(transition, settings["alpha"], support, source)
    return full


@pytest.mark.parametrize(("k", "gamma"), [(2, 3), (12, 3), (30, 1), (499, 2.5)])
def test_the_graph_is_that_of_loops(k, gamma):
    graph = Diffusion(k=k, gamma=gamma).graph(DATABASE)
    found = graph.transition.toarray()
    np.testing.assert_allclose(found, dense_transition(DATABASE, k, gamma), atol=1e-6)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize("truncation", [40, 200, 500])
@pytest.mark.parametrize("junk", [False, True])
def test_scores_and_order_are_those_of_dense_linear_systems(mode, truncation, junk):
    settings = {"truncation": truncation, "kq": 5, "gamma": 3.0, "alpha": 0.95}
    text = ",".join(f"{name}={value}" for name, value in settings.items())
    chain = parse_chain(f"diffusion:k=15,mode={mode},iterations=500,tolerance=1e-10,{text}")
    # Junk in the middle of what counts: the second and the fourth photo, and some others.
    rows = None
    if junk:
        rows = [np.array([*first_by_definition(query, DATABASE)[1:4:2], 17, 400]) for query in QUERIES]
    plain = [first_by_definition(query, DATABASE, () if rows is None else rows[q]) for q, query in enumerate(QUERIES)]
    found = chain.rerank(QUERIES, DATABASE, rows)
    transition = dense_transition(DATABASE, 15, 3.0)
    by_definition = online_by_definition if mode == "online" else offline_by_definition
    for q, query in enumerate(QUERIES):
        own = () if rows is None else rows[q]
        expected = by_definition(transition, query, settings, own)
        reached = int((expected > 1e-9).sum())
        assert reached > 5
        head = found.order[q, :reached]
        np.testing.assert_allclose(found.similarity[q, :reached], expected[head], rtol=1e-4, atol=1e-9)
        assert (np.diff(expected[head]) <= 1e-6).all()
        # What no edge leads to keeps its order, and junk is last.
        behind = [row for row in plain[q] if expected[row] < 1e-14]
        unreached = set(behind) | {int(row) for row in own}
        assert [row for row in found.order[q] if row in unreached] == behind + sorted(own)
        assert found.order[q, 500 - len(own) :].tolist() == sorted(own)


@pytest.mark.parametrize("unknowns", [1, 700, 10**6])
def test_a_system_has_the_same_solution_in_any_batch(monkeypatch, unknowns):
    monkeypatch.setattr(knn_graph, "_UNKNOWNS_AT_A_TIME", unknowns)
    graph = Diffusion(k=15).graph(DATABASE)
    supports = nearest_by_definition(DATABASE)[:50, :60].astype(np.int64)
    supports[3, 20:] = -1
    supports[7, 5:9] = -1
    sources = np.random.default_rng(0).random(supports.shape)
    found = Solver(0.9, 300, 1e-12).solve(graph, supports, sources)
    transition = graph.transition.toarray().astype(np.float64)
    for row, support in enumerate(supports):
        inside = support >= 0
        expected = dense_solution(transition, 0.9, support[inside], sources[row, inside])
        np.testing.assert_allclose(found[row, inside], expected, rtol=1e-5)
        assert (found[row, ~inside] == 0).all()


def test_conjugate_gradients_stop_as_asked():
    graph = Diffusion(k=15).graph(DATABASE)
    supports, source = np.arange(500)[None], np.eye(1, 500)
    exact = dense_solution(graph.transition.toarray().astype(np.float64), 0.99, np.arange(500), source[0])
    errors = [np.abs(Solver(0.99, steps, 0).solve(graph, supports, source)[0] - exact).max() for steps in (2, 20, 200)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-5
    loose = Solver(0.99, 500, 0.1).solve(graph, supports, source)[0]
    residual = loose - 0.99 * graph.transition @ loose - source[0]
    assert 1e-4 < np.linalg.norm(residual) < 0.1
    # Steps beyond an exact solution change nothing: a photo without edges.
    alone = Graph.mutual(neighbours(np.eye(8, dtype=np.float32), 2), 3.0)
    np.testing.assert_array_equal(Solver(0.99, 50, 0).solve(alone, np.arange(8)[None], np.eye(1, 8)), np.eye(1, 8))


def test_offline_rows_are_columns_of_inverses():
    method = Diffusion(k=15, truncation=100, alpha=0.9, iterations=300, tolerance=1e-10)
    found = method.offline_rows(DATABASE).toarray()
    transition, nearest = dense_transition(DATABASE, 15, 3.0), nearest_by_definition(DATABASE)
    for row in range(0, 500, 50):
        expected = np.zeros(500)
        expected[nearest[row][:100]] = dense_solution(transition, 0.9, nearest[row][:100], np.eye(1, 100)[0])
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_queries_in_parts_give_what_all_at_once_do(monkeypatch):
    chain = parse_chain("diffusion:k=15,truncation=50,kq=3")
    junk = [np.array([q, 100 + q]) for q in range(6)]
    whole = chain.rerank(QUERIES, DATABASE, junk)
    monkeypatch.setattr(diffusion, "_ROWS_AT_A_TIME", 6)
    parts = chain.rerank(QUERIES, DATABASE, junk)
    np.testing.assert_array_equal(whole.order, parts.order)
    np.testing.assert_array_equal(whole.similarity, parts.similarity)


def test_every_photo_may_be_junk_and_the_database_smaller_than_the_settings():
    for mode in diffusion.MODES:
        chain = parse_chain(f"diffusion:mode={mode}")
        found = chain.rerank(QUERIES, DATABASE[:8], [np.arange(8)] * 6)
        np.testing.assert_array_equal(found.order, np.tile(np.arange(8), (6, 1)))
        assert sorted(chain.rerank(QUERIES[:1], DATABASE[:8]).order[0].tolist()) == list(range(8))
        assert chain.rerank(QUERIES[:0], DATABASE).order.shape == (0, 500)
