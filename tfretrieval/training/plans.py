"""An epoch's plan: which photos stand in each of its batches."""

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.extraction import Extractor
from tfretrieval.mining.balanced import balanced_batches
from tfretrieval.mining.positives import InstancePositives
from tfretrieval.mining.tuples import mine_tuples
from tfretrieval.training.config import TrainingConfig
from tfretrieval.training.instances import TrainingData


def batch_size(data: TrainingData, config: TrainingConfig) -> int:
    """Returns the photos in a batch."""
    if config.uses_tuples:
        return min(config.tuples, _tuple_count(data, config)) * (2 + config.negatives)
    return min(config.instances, _paired_instances(data)) * config.photos


def steps_per_epoch(data: TrainingData, config: TrainingConfig) -> int:
    """Returns the steps in an epoch.

    Raises:
        InputError: fewer other instances than a tuple has negatives, or too few instances for balanced batches.
    """
    if config.uses_tuples:
        others = len(np.unique(data.labels)) - 1
        if others < config.negatives:
            raise InputError(
                f"--negatives={config.negatives} hard negatives from different instances are wanted, and the training "
                f"photos show {others} other instances; lower --negatives or add instances."
            )
        return max(1, _tuple_count(data, config) // config.tuples)
    if _paired_instances(data) < 2:
        raise InputError(
            f"--loss={config.loss} compares instances with two or more photos each, and the training photos have "
            f"{_paired_instances(data)} such instance; at least two are wanted."
        )
    return config.steps or max(1, round(len(data.rows) / batch_size(data, config)))


def epoch_plan(data: TrainingData, config: TrainingConfig, epoch: int, extractor: Extractor, progress) -> np.ndarray:
    """Draws an epoch's batches, a pure function of the seed, the epoch and, for tuples, the network.

    Args:
        data: the photos.
        config: the training.
        epoch: its number, from 0.
        extractor: describes photos with the network as it is.
        progress: makes the mining's progress bar from a number of photos.

    Returns:
        int64 [steps, B] rows of the training split. For tuples, each batch is T tuples of 2 + N photos in turn.
    """
    rng = np.random.default_rng([config.seed, 2, epoch])
    steps = steps_per_epoch(data, config)
    if not config.uses_tuples:
        return data.rows[balanced_batches(data.labels, config.instances, config.photos, steps, rng)]

    def describe(places: np.ndarray) -> np.ndarray:
        return extractor(data.split, data.rows[places], progress)

    tuples = mine_tuples(
        data.labels, InstancePositives(data.labels), describe, rng, config.queries, config.negatives, config.pool_size
    )
    per_batch = min(config.tuples, len(tuples))
    return data.rows[tuples[: steps * per_batch]].reshape(steps, -1)


def _tuple_count(data: TrainingData, config: TrainingConfig) -> int:
    _, inverse, counts = np.unique(data.labels, return_inverse=True, return_counts=True)
    queries = int((counts[inverse] > 1).sum())
    return min(config.queries or queries, queries)


def _paired_instances(data: TrainingData) -> int:
    return int((np.unique(data.labels, return_counts=True)[1] > 1).sum())
