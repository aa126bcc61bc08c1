import collections

import numpy as np
import pytest

from tfretrieval.mining.balanced import balanced_batches


def unequal_labels():
    """Ten instances of 2 to 11 photos, shuffled, and three with a single photo."""
    labels = np.repeat(np.arange(13), [*range(2, 12), 1, 1, 1])
    return np.random.default_rng(0).permutation(labels) * 3 + 100


def draw(labels, instances, photos, steps, seed=0):
    return balanced_batches(labels, instances, photos, steps, np.random.default_rng(seed))


@pytest.mark.parametrize(("instances", "photos"), [(2, 2), (4, 3), (7, 5), (10, 2)])
def test_each_batch_has_p_instances_with_k_photos_side_by_side(instances, photos):
    labels = unequal_labels()
    batches = draw(labels, instances, photos, 40)
    assert batches.shape == (40, instances * photos) and batches.dtype == np.int64
    for batch in labels[batches].reshape(40, instances, photos):
        assert (batch == batch[:, :1]).all()
        assert len(set(batch[:, 0])) == instances


@pytest.mark.parametrize(("instances", "photos"), [(3, 2), (7, 4), (10, 8)])
def test_photos_of_a_batch_repeat_only_when_the_instance_has_too_few(instances, photos):
    labels = unequal_labels()
    available = collections.Counter(labels.tolist())
    for batch in draw(labels, instances, photos, 60).reshape(-1, photos):
        label = labels[batch[0]]
        counts = collections.Counter(batch.tolist())
        assert len(counts) == min(photos, available[label])
        assert max(counts.values()) <= -(-photos // available[label]) + (available[label] < photos)


def test_instances_come_equally_often_and_so_do_the_photos_of_one():
    labels = unequal_labels()
    batches = draw(labels, 4, 3, 50)
    visits = collections.Counter(labels[batches.reshape(-1, 3)[:, 0]].tolist())
    assert set(visits.values()) == {20}  # 200 places over ten instances
    uses = collections.Counter(batches.ravel().tolist())
    for label in visits:
        counts = [uses[row] for row in np.flatnonzero(labels == label)]
        assert max(counts) - min(counts) <= 1


def test_single_photos_are_left_out_and_all_others_are_used():
    labels = unequal_labels()
    used = set(draw(labels, 5, 4, 40).ravel().tolist())
    counts = collections.Counter(labels.tolist())
    assert used == {row for row in range(len(labels)) if counts[labels[row]] > 1}


def test_fewer_instances_than_asked_give_smaller_batches():
    labels = np.array([4, 4, 9, 9, 9, 1])
    batches = draw(labels, 12, 2, 5)
    assert batches.shape == (5, 4)
    assert all(set(labels[batch]) == {4, 9} for batch in batches)


def test_the_random_state_alone_decides():
    labels = unequal_labels()
    np.testing.assert_array_equal(draw(labels, 4, 3, 20, seed=3), draw(labels, 4, 3, 20, seed=3))
    assert draw(labels, 4, 3, 20, seed=3).tolist() != draw(labels, 4, 3, 20, seed=4).tolist()
