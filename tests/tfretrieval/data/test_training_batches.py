import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.data import augmentation
from tfretrieval.data.augmentation import NO_AUGMENTATION, Augmentation
from tfretrieval.data.photo_store import PhotoStore
from tfretrieval.data.training_batches import training_batches
from tfretrieval.errors import InputError

SIZE = 20
PLAN = np.random.default_rng(0).integers(0, 15, (5, 6))
COLOURFUL = Augmentation(rotation=20.0, hue=0.2, erasing=0.5)
GEOMETRY = Augmentation(0.4, 1.2, 20.0, True, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def store(record_set):
    return PhotoStore(record_set.splits["train"], 56)


def pixels(*args, **options):
    """Steps, and the photos of all batches, float32 [steps, B, size, size, 3]."""
    steps, photos = zip(*training_batches(*args, **options).as_numpy_iterator(), strict=True)
    return list(steps), np.stack(photos)


@pytest.fixture(scope="module")
def whole(store):
    return pixels(store, PLAN, SIZE, COLOURFUL, (3, 0))


def test_batches_have_the_plan_s_shape_and_are_numbered(whole):
    steps, photos = whole
    assert steps == [0, 1, 2, 3, 4]
    assert photos.shape == (5, 6, SIZE, SIZE, 3)
    assert photos.dtype == np.float32
    assert photos.min() >= 0
    assert photos.max() <= 255


def test_without_augmentation_batches_show_the_planned_photos(store, record_set):
    squares = np.flatnonzero((record_set.splits["train"].sizes == 56).all(axis=1))
    plan = np.stack([squares, squares[::-1], np.roll(squares, 1)])
    _, photos = pixels(store, plan, 56, NO_AUGMENTATION, (0, 0))
    for step, place in np.ndindex(plan.shape):
        np.testing.assert_array_equal(photos[step, place], store.photo(tf.constant(plan[step, place])))


def test_the_same_seed_gives_the_same_pixels(store, whole):
    np.testing.assert_array_equal(pixels(store, PLAN, SIZE, COLOURFUL, (3, 0))[1], whole[1])


def test_photos_read_from_disk_give_the_same_pixels(record_set, whole):
    uncached = PhotoStore(record_set.splits["train"], 56, cache_bytes=0)
    np.testing.assert_array_equal(pixels(uncached, PLAN, SIZE, COLOURFUL, (3, 0))[1], whole[1])


@pytest.mark.parametrize("seed", [(4, 0), (3, 1), (0, 3)])
def test_another_run_or_epoch_gives_other_pixels(store, whole, seed):
    other = pixels(store, PLAN, SIZE, COLOURFUL, seed)[1]
    assert (other != whole[1]).any(axis=(2, 3, 4)).all()


def test_each_place_and_step_has_its_own_view_and_colours(store):
    plan = np.full((3, 4), 7)
    for how in (GEOMETRY, dataclasses.replace(NO_AUGMENTATION, brightness=0.5)):
        photos = pixels(store, plan, SIZE, how, (0, 0))[1].reshape(12, -1)
        assert len({photo.tobytes() for photo in photos}) == 12


@pytest.mark.parametrize("first_step", [1, 3, 4])
def test_starting_at_a_later_step_gives_the_pixels_of_the_whole_run(store, whole, first_step):
    steps, photos = pixels(store, PLAN, SIZE, COLOURFUL, (3, 0), first_step=first_step)
    assert steps == list(range(first_step, 5))
    np.testing.assert_array_equal(photos, whole[1][first_step:])


def test_starting_after_the_last_step_gives_no_batch(store):
    assert list(training_batches(store, PLAN, SIZE, COLOURFUL, (3, 0), first_step=5)) == []


@pytest.mark.parametrize("how", [GEOMETRY, COLOURFUL], ids=["geometry", "colours"])
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_together_give_the_pixels_of_one(store, how, workers):
    _, expected = pixels(store, PLAN, SIZE, how, (3, 0))
    together = np.zeros_like(expected)
    for worker in range(workers):
        steps, share = pixels(store, PLAN, SIZE, how, (3, 0), worker=worker, workers=workers)
        assert steps == [0, 1, 2, 3, 4]
        together[:, worker::workers] = share
    np.testing.assert_array_equal(together, expected)


def test_a_worker_resumes_with_its_own_pixels(store):
    options = {"worker": 1, "workers": 2}
    _, expected = pixels(store, PLAN, SIZE, COLOURFUL, (3, 0), **options)
    _, resumed = pixels(store, PLAN, SIZE, COLOURFUL, (3, 0), first_step=2, **options)
    np.testing.assert_array_equal(resumed, expected[2:])


def test_a_batch_that_workers_cannot_share_equally_is_refused(store):
    with pytest.raises(InputError, match="a batch of 6 photos is shared by 4 workers"):
        training_batches(store, PLAN, SIZE, GEOMETRY, (3, 0), workers=4)


def test_the_views_are_those_of_their_own_draws(store):
    _, photos = pixels(store, PLAN, SIZE, GEOMETRY, (3, 0))
    draws = np.random.default_rng([3, 0, 3]).random((5, 6, 6))
    for step, place in ((0, 0), (2, 5), (4, 1)):
        photo = store.photo(tf.constant(PLAN[step, place])).numpy()
        (matrix,) = augmentation.view_matrices([photo.shape[:2]], SIZE, GEOMETRY, draws[step, place][None])
        np.testing.assert_array_equal(photos[step, place], augmentation.cut_view(photo, matrix, SIZE))
