"""Batches for training: a plan of rows in, augmented photos out, a pure function of the plan and the seed."""

import numpy as np
import tensorflow as tf

from tfretrieval.data import augmentation
from tfretrieval.data.augmentation import Augmentation
from tfretrieval.data.parallel import CORES, steady
from tfretrieval.data.photo_store import PhotoStore
from tfretrieval.errors import InputError


def training_batches(
    store: PhotoStore,
    plan: np.ndarray,
    size: int,
    how: Augmentation,
    seed: tuple[int, int],
    first_step: int = 0,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """Makes the batches of one epoch.

    A photo's pixels depend on (seed, step, place in the batch) alone, whatever the number of workers and the step that
    is begun with.

    Args:
        store: the photos.
        plan: int [steps, B], rows of the store, one line a batch.
        size: side of the square photos in pixels.
        how: the augmentation.
        seed: two integers that name the run and the epoch.
        first_step: line of the plan to begin with.
        worker: number of this worker; it makes photos `worker`, `worker + workers`, ... of every batch.
        workers: how many workers share each batch, equally.

    Returns:
        A dataset of (step int64 scalar, photos float32 [B / workers, size, size, 3] in [0, 255]).

    Raises:
        InputError: the batch cannot be shared equally.
    """
    steps, batch = plan.shape
    if batch % workers:
        raise InputError(f"a batch of {batch} photos is shared by {workers} workers; a multiple of these is wanted.")
    base = tf.random.experimental.stateless_fold_in(tf.constant(seed, tf.int32), 1)
    layers = augmentation.colour_layers(how)
    places = np.arange(worker, batch, workers)
    rows = plan[first_step:, places].astype(np.int64).ravel()
    draws = np.random.default_rng([*seed, 3]).random((steps, batch, 6))[first_step:, places].reshape(-1, 6)
    matrices = augmentation.view_matrices(store.sizes[rows], size, how, draws)

    def view(row: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
        return augmentation.view(store.photo(row), matrix, size)

    def colour(step: tf.Tensor, photos: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        own_seed = tf.random.experimental.stateless_fold_in(base, -1 - step)
        return step, augmentation.vary_colours(photos, layers, own_seed, (worker, workers))

    photos = tf.data.Dataset.from_tensor_slices((rows, matrices)).map(view, num_parallel_calls=CORES)
    batches = photos.batch(len(places), drop_remainder=True).enumerate(first_step)
    return steady(batches.map(colour, num_parallel_calls=1).prefetch(2))
