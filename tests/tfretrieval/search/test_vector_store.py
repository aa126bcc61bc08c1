import re
from pathlib import Path

import numpy as np
import pytest

from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.search.exact import search_top
from tfretrieval.search.vector_store import MilvusStore, QdrantStore, search, upsert


def unit_vectors(count, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


DATABASE = Descriptors(unit_vectors(150, 0), tuple(f"{row}.jpg" for row in range(150)))
QUERIES = unit_vectors(9, 1)
COLUMNS = {"instance": [f"place {row % 5}" for row in range(150)], "height": np.arange(150, dtype=np.int32)}


def qdrant(place):
    client = pytest.importorskip("qdrant_client").QdrantClient(path=str(place / "qdrant"))
    return client, QdrantStore(client, "photos", 16)


def milvus(place):
    pytest.importorskip("milvus_lite")
    client = pytest.importorskip("pymilvus").MilvusClient(str(place / "photos.db"))
    return client, MilvusStore(client, "photos", 16)


@pytest.fixture(params=[qdrant, milvus])
def opened(request, tmp_path):
    client, store = request.param(tmp_path)
    yield client, store
    client.close()


def test_results_are_those_of_exact_search(opened):
    _, store = opened
    upsert(store, DATABASE, COLUMNS, batch=64)
    for k in (1, 10, 150, 200):
        found, expected = search(store, QUERIES, k, batch=4), search_top(QUERIES, DATABASE.vectors, k)
        np.testing.assert_array_equal(found.order, expected.order)
        np.testing.assert_allclose(found.similarity, expected.similarity, atol=1e-6)


def test_the_same_again_changes_nothing_and_other_vectors_replace(opened):
    _, store = opened
    upsert(store, DATABASE, batch=100)
    upsert(store, DATABASE, batch=70)
    upsert(store, Descriptors(QUERIES[:1], ("new.jpg",)), first_row=33)
    upsert(store, Descriptors(QUERIES[1:2], ("more.jpg",)), first_row=150)
    changed = np.concatenate([DATABASE.vectors, QUERIES[1:2]])
    changed[33] = QUERIES[0]
    found, expected = search(store, QUERIES, 200), search_top(QUERIES, changed, 200)
    assert found.order[0, 0] == 33 and found.order[1, 0] == 150
    np.testing.assert_array_equal(found.order, expected.order)


def test_what_belongs_to_a_photo_is_kept_with_it(tmp_path):
    client, store = qdrant(tmp_path)
    upsert(store, DATABASE, COLUMNS)
    (point,) = client.retrieve("photos", [7])
    assert point.payload == {"photo": "7.jpg", "instance": "place 2", "height": 7}
    client.close()
    client, store = qdrant(tmp_path)  # opened again, it is all there
    np.testing.assert_array_equal(search(store, QUERIES, 3).order, search_top(QUERIES, DATABASE.vectors, 3).order)
    client.close()


@pytest.mark.parametrize("package", ["qdrant_client", "pymilvus"])
def test_the_examples_of_the_guide_run(package, tmp_path, monkeypatch, capsys):
    pytest.importorskip(package)
    if package == "pymilvus":
        pytest.importorskip("milvus_lite")
    guide = (Path(__file__).parents[3] / "docs" / "vector_databases.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if package in block)
    monkeypatch.chdir(tmp_path)
    DATABASE.save("runs/database")
    Descriptors(QUERIES, tuple(f"query {row}" for row in range(9))).save("runs/queries")
    exec(compile(code, "vector_databases.md", "exec"), {})
    best = search_top(QUERIES, DATABASE.vectors, 10).order[0]
    assert capsys.readouterr().out.splitlines()[-1] == str([DATABASE.ids[row] for row in best])


class Uneven:
    """Answers as an approximate index may: it has found less for some queries."""

    def query(self, queries, k, exact):
        return [[(row, 0.5) for row in range(1 + place)] for place in range(len(queries))]


def test_equal_similarities_rise_by_row_and_uneven_answers_are_refused():
    class Tied:
        def query(self, queries, k, exact):
            return [[(5, 0.5), (2, 0.5), (9, 0.75)]] * len(queries)

    assert search(Tied(), QUERIES, 3).order.tolist() == [[9, 2, 5]] * 9
    with pytest.raises(InputError, match="1 to 9 points a query"):
        search(Uneven(), QUERIES, 9)
    with pytest.raises(InputError, match="0 most similar"):
        search(Tied(), QUERIES, 0)
    assert search(Tied(), QUERIES[:0], 3).order.shape == (0, 0)


def test_columns_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="'height' has 2 values for 150 photos"):
        upsert(Uneven(), DATABASE, {"height": [1, 2]})
    with pytest.raises(InputError, match="another name than 'photo'"):
        upsert(Uneven(), DATABASE, {"photo": range(150)})
    with pytest.raises(InputError, match="batches of 0"):
        upsert(Uneven(), DATABASE, batch=0)
