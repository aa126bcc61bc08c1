"""Instance-balanced batches: P instances, K photos of each."""

import numpy as np


def balanced_batches(
    labels: np.ndarray, instances: int, photos: int, steps: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws batches of P instances with K photos each.

    Instances come round in shuffled order, each as often as the others; so do the photos within an instance. An
    instance with one photo has no pair to learn from and is left out; one with fewer than K gives photos twice in a
    batch, in different augmented views.

    Args:
        labels: int [N].
        instances: P, at least 2.
        photos: K, at least 2.
        steps: batches.
        rng: the random source.

    Returns:
        int64 [steps, P * K] rows, the photos of one instance next to each other.
    """
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    groups = [group for group in groups if len(group) > 1]
    queues = [_Endless(group, rng) for group in groups]
    turn = _Endless(np.arange(len(groups)), rng)
    per_batch = min(instances, len(groups))
    return np.array(
        [[row for group in turn.take(per_batch) for row in queues[group].take(photos)] for _ in range(steps)], np.int64
    )


class _Endless:
    """Gives items in shuffled rounds; within one `take` an item repeats only when there are fewer items than asked."""

    def __init__(self, items: np.ndarray, rng: np.random.Generator):
        self._items, self._rng, self._waiting = items, rng, []

    def take(self, count: int) -> list[int]:
        taken: list[int] = []
        while len(taken) < count:
            if not self._waiting:
                # Those just taken go to the end of the new round, so that two rounds do not meet in one batch.
                fresh = self._rng.permutation(self._items).tolist()
                self._waiting = [item for item in fresh if item not in taken] + [
                    item for item in fresh if item in taken
                ]
            taken.append(self._waiting.pop(0))
        return taken
