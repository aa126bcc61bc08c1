import numpy as np
import pytest

pytest.importorskip("apache_beam")

from tfretrieval.beam import knn
from tfretrieval.beam.options import BeamOptions
from tfretrieval.errors import InputError
from tfretrieval.search.knn import neighbours


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    made = np.random.default_rng(0).normal(size=(150, 24)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    path = tmp_path_factory.mktemp("vectors") / "vectors.npy"
    np.save(path, made)
    return path


@pytest.mark.parametrize("mode", ["", "--direct_num_workers=2 --direct_running_mode=multi_threading"])
def test_workers_find_the_bits_that_one_process_finds(vectors, tmp_path, mode):
    running = BeamOptions("DirectRunner", mode)
    found = knn.neighbours(vectors, 9, tmp_path / "graph", running, tile_rows=64, rows_at_a_time=32)
    expected = neighbours(np.load(vectors), 9, rows_at_a_time=32)
    np.testing.assert_array_equal(found.order, expected.order)
    np.testing.assert_array_equal(found.similarity.view(np.int32), expected.similarity.view(np.int32))
    assert not list(tmp_path.iterdir())


def test_workers_may_see_the_vectors_elsewhere(vectors, tmp_path):
    running = BeamOptions("DirectRunner", mounts=f"{tmp_path / 'near'}={tmp_path / 'far'}")
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    (tmp_path / "near" / "vectors.npy").write_bytes(vectors.read_bytes())
    found = knn.neighbours(
        tmp_path / "near" / "vectors.npy", 3, tmp_path / "near" / "graph", running, tile_rows=96, rows_at_a_time=32
    )
    np.testing.assert_array_equal(found.order, neighbours(np.load(vectors), 3, rows_at_a_time=32).order)


def test_no_neighbours_are_refused_before_anything_runs(vectors, tmp_path):
    with pytest.raises(InputError, match="0 neighbours among 150"):
        knn.neighbours(vectors, 0, tmp_path / "graph", BeamOptions("NoSuchRunner"))
