import numpy as np
import pytest

from tfretrieval.losses import distances, pairs

from .checks import distance, gradient, random_units


def by_definition(a, b, metric):
    if metric == "angular":
        return 1 - float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))
    return distance(a, b) ** (2 if metric == "squared-L2" else 1)


@pytest.mark.parametrize("metric", distances.METRICS)
def test_distances_are_their_definitions_for_descriptors_of_any_length(metric):
    rows = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    memory = pairs.Memory(np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32), np.arange(4))
    columns = np.concatenate([rows, memory.descriptors])
    expected = [[by_definition(a, b, metric) for b in columns] for a in rows]
    np.testing.assert_allclose(distances.all_pairs(rows, metric, memory), expected, atol=2e-6)
    np.testing.assert_allclose(distances.all_pairs(rows, metric), np.array(expected)[:, :7], atol=2e-6)
    np.testing.assert_allclose(distances.paired(rows[:, None], columns, metric), expected, atol=2e-6)


@pytest.mark.parametrize("metric", distances.METRICS)
def test_gradients_are_finite_at_identical_descriptors(metric):
    rows = np.repeat(random_units(1, 8), 5, axis=0)
    assert np.isfinite(gradient(lambda x: distances.all_pairs(x, metric), rows)).all()
    assert np.isfinite(gradient(lambda x: distances.paired(x[:2], x[2:4], metric), rows)).all()


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="distance_metric='L1' is unknown; one of L2, squared-L2, angular"):
        distances.check("L1")
