import numpy as np
import pytest

from tfretrieval.evaluation.descriptor_map import MAX_POINTS, descriptor_map


def clustered(count, seed=0, dimensions=64):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    vectors = rng.normal(size=(4, dimensions))[labels] + 0.15 * rng.normal(size=(count, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def test_photos_lie_beside_those_of_their_kind():
    vectors, labels = clustered(120)
    made = descriptor_map(vectors[:40], vectors[40:])
    points = np.concatenate([made.query_points, made.database_points])
    assert points.min() >= 0 and points.max() <= 1 and points.dtype == np.float32
    kinds = np.concatenate([labels[:40][made.query_rows], labels[40:][made.database_rows]])
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert np.all(kinds[distances.argmin(axis=1)] == kinds)
    assert made.counts == (40, 80) and "t-SNE" in made.method and "50 principal components" in made.method


def test_equal_input_and_seed_give_equal_points():
    vectors, _ = clustered(60)
    first, second, other = (descriptor_map(vectors[:20], vectors[20:], 30, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.query_rows, second.query_rows) and not np.array_equal(
        first.query_rows, other.query_rows
    )
    np.testing.assert_array_equal(first.database_points, second.database_points)


def test_the_points_are_at_most_as_many_as_asked_for_and_hold_what_is_wanted():
    vectors, _ = clustered(300)
    made = descriptor_map(vectors[:100], vectors[100:], 60, wanted=np.array([3, 3, 7, 199]))
    assert len(made.query_rows) == 20 and len(made.database_rows) == 40
    assert {3, 7, 199} <= set(made.database_rows.tolist()) and np.all(np.diff(made.database_rows) > 0)
    many = descriptor_map(vectors[:100], vectors[100:], 60, wanted=np.arange(150))
    assert len(many.database_rows) == 40 and many.database_rows.max() < 150
    # A small database leaves its room to the queries.
    assert len(descriptor_map(vectors[:100], vectors[100:110], 60).query_rows) == 50


@pytest.mark.parametrize("count", [5, 6, 9])
def test_few_photos_and_equal_photos_make_a_map(count):
    same = np.tile(np.float32([[0.6, 0.8]]), (count, 1))
    made = descriptor_map(same[:2], same[2:])
    assert np.isfinite(made.query_points).all() and len(made.database_points) == count - 2


def test_too_few_photos_make_none_and_too_many_are_refused():
    vectors, _ = clustered(10)
    assert descriptor_map(vectors[:2], vectors[2:4]) is None
    assert descriptor_map(vectors[:5], vectors[5:], 0) is None
    with pytest.raises(ValueError, match="most is 4001"):
        descriptor_map(vectors, vectors, MAX_POINTS + 1)
