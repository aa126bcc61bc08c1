"""An epoch's plan: which photos stand in each of its batches."""

from collections.abc import Callable

import numpy as np

from tfretrieval.data.scene_geometry import SceneSet
from tfretrieval.errors import InputError
from tfretrieval.extraction import Extractor
from tfretrieval.mining.balanced import balanced_batches
from tfretrieval.mining.positives import Candidates, GeometricPositives, InstancePositives
from tfretrieval.mining.tuples import mine_tuples
from tfretrieval.training.config import TrainingConfig
from tfretrieval.training.instances import TrainingData


class Plans:
    """Draws the batches of a training.

    Args:
        data: the photos.
        config: the training.

    Attributes:
        batch_size: photos in a batch.
        steps: steps in an epoch.

    Raises:
        InputError: fewer other instances than a tuple has negatives, no photo with a positive, too few instances for
            balanced batches, or a geometry that lacks training photos.
    """

    def __init__(self, data: TrainingData, config: TrainingConfig):
        self._data, self._config = data, config
        if config.uses_tuples:
            self._positives = _positives(data, config)
            self.batch_size, self.steps = self._size_of_tuples()
        else:
            self.batch_size, self.steps = self._size_of_balanced()

    def epoch(self, epoch: int, extractor: Extractor | None, progress: Callable | None) -> np.ndarray:
        """Draws an epoch's batches, a pure function of the seed, the epoch and, for tuples, the network.

        Args:
            epoch: its number, from 0.
            extractor: describes photos with the network as it is; balanced batches do not need one.
            progress: makes the mining's progress bar from a number of photos.

        Returns:
            int64 [steps, B] rows of the training split. For tuples, each batch is T tuples of 2 + N photos in turn.
        """
        data, config = self._data, self._config
        rng = np.random.default_rng([config.seed, 2, epoch])
        if not config.uses_tuples:
            return data.rows[balanced_batches(data.labels, config.instances, config.photos, self.steps, rng)]

        def describe(places: np.ndarray) -> np.ndarray:
            return extractor(data.split, data.rows[places], progress)

        limits = (config.queries, config.negatives, config.pool_size, config.one_per_instance)
        tuples = mine_tuples(data.labels, self._positives, describe, rng, *limits)
        per_batch = self.batch_size // (2 + config.negatives)
        return data.rows[tuples[: self.steps * per_batch]].reshape(self.steps, -1)

    def _size_of_tuples(self) -> tuple[int, int]:
        config = self._config
        others = len(np.unique(self._data.labels)) - 1
        if config.one_per_instance and others < config.negatives:
            raise InputError(
                f"--negatives={config.negatives} hard negatives from different instances are wanted, and the training "
                f"photos show {others} other instances; lower --negatives or add instances."
            )
        eligible = len(self._positives.eligible())
        if not eligible:
            raise InputError(
                f"--positives={config.positives}: none of {len(self._data.rows)} training photos has a positive; lower "
                "--common_points or raise --scale_change."
            )
        tuples = min(config.queries or eligible, eligible)
        return min(config.tuples, tuples) * (2 + config.negatives), max(1, tuples // config.tuples)

    def _size_of_balanced(self) -> tuple[int, int]:
        data, config = self._data, self._config
        paired = int((np.unique(data.labels, return_counts=True)[1] > 1).sum())
        if paired < 2:
            raise InputError(
                f"--loss={config.loss} compares instances with two or more photos each, and the training photos have "
                f"{paired} such instance; at least two are wanted."
            )
        photos = min(config.instances, paired) * config.photos
        return photos, config.steps or max(1, round(len(data.rows) / photos))


def _positives(data: TrainingData, config: TrainingConfig) -> InstancePositives | GeometricPositives:
    if config.positives == "instance":
        return InstancePositives(data.labels)
    ids = tuple(data.split.ids[row] for row in data.rows)
    candidates = Candidates.from_scenes(SceneSet.load(config.geometry), ids)
    return GeometricPositives(candidates, config.positives, config.common_points, config.scale_change)
