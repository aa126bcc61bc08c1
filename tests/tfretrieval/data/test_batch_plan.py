import numpy as np
import pytest

from tfretrieval.data.batch_plan import BatchPlan, plan_batches

SIZES = np.array([(3, 4), (4, 3), (3, 4), (2, 2), (3, 4), (4, 3), (3, 4), (3, 4)])


def plan(*given, sizes=SIZES, **named):
    return [batch.tolist() for batch in plan_batches(sizes, *given, **named)]


def test_by_hand():
    assert plan(32, 1000) == [[0, 2, 4, 6, 7], [1, 5], [3]]
    assert plan(2, 1000) == [[0, 2], [1, 5], [3], [4, 6], [7]]


def test_pixels_limit_a_batch_and_a_larger_photo_is_alone():
    assert plan(32, 24) == [[0, 2], [1, 5], [3], [4, 6], [7]]
    assert plan(32, 11) == [[0], [1], [2], [3], [4], [5], [6], [7]]


def test_equal_shapes_are_sought_within_a_window():
    assert plan(32, 1000, window=4) == [[0, 2], [1], [3], [4, 6, 7], [5]]


@pytest.mark.parametrize(("batch_size", "pixels", "window"), [(5, 10**6, 4096), (64, 3000, 100), (1, 1, 7)])
def test_every_photo_is_in_one_batch_of_its_shape(batch_size, pixels, window):
    sizes = np.random.default_rng(0).integers(10, 14, (1000, 2))
    batches = list(plan_batches(sizes, batch_size, pixels, window))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    for batch in batches:
        assert len(np.unique(sizes[batch], axis=0)) == 1
        assert 1 <= len(batch) <= batch_size
        assert len(batch) == 1 or sizes[batch].prod(axis=1).sum() <= pixels
        assert len({row // window for row in batch.tolist()}) == 1
        assert batch.dtype == np.int64


def test_shapes_are_told_apart_that_have_equally_many_pixels():
    assert plan(9, 10**9, sizes=np.array([(2, 6), (3, 4), (6, 2), (2, 6)])) == [[0, 3], [1], [2]]


def test_no_photos_make_no_batches():
    assert plan(3, 10, sizes=np.zeros((0, 2), np.int64)) == []


def test_a_plan_keeps_its_batches():
    batches = [np.array([4, 1]), np.array([2]), np.array([0, 3])]
    found = BatchPlan.of(batches)
    assert len(found) == 3
    assert [batch.tolist() for batch in found] == [[4, 1], [2], [0, 3]]
    joined = BatchPlan.join([found, BatchPlan.of([]), BatchPlan.of([np.array([9])])])
    assert [batch.tolist() for batch in joined] == [[4, 1], [2], [0, 3], [9]]
    assert list(BatchPlan.join([])) == []
