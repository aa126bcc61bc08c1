"""Which photos run through a network together: of exactly equal shape, so that nothing is padded or run singly."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

# Photos of 1,024 x 768 px go through a ResNet-50 of three scales in float32 at 0.59 a second one by one, at 0.66 two
# together and at 0.48 eight together, on 2 cores; eight take 1.8 GB more.
CPU_PIXELS = 1 << 21
GPU_PIXELS = 1 << 25


@dataclasses.dataclass(frozen=True, eq=False)
class BatchPlan:
    """Batches in their order, in two arrays, so that a plan of many photos takes few bytes for each.

    Attributes:
        rows: the photos' rows, int64 [N].
        lengths: how many of them each batch has, int64 [B].
    """

    rows: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, batches: Iterable[np.ndarray]) -> "BatchPlan":
        """Returns batches as a plan."""
        found = list(batches)
        lengths = np.array([len(batch) for batch in found], np.int64)
        return cls(np.concatenate([np.zeros(0, np.int64), *found]).astype(np.int64), lengths)

    @classmethod
    def join(cls, plans: "Iterable[BatchPlan]") -> "BatchPlan":
        """Returns plans one after the other."""
        found = [cls.of([]), *plans]
        return cls(np.concatenate([plan.rows for plan in found]), np.concatenate([plan.lengths for plan in found]))

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[np.ndarray]:
        start = 0
        for length in self.lengths.tolist():
            yield self.rows[start : start + length]
            start += length


def plan_batches(sizes: np.ndarray, batch_size: int, batch_pixels: int, window: int = 4096) -> Iterator[np.ndarray]:
    """Groups photos of exactly equal shape.

    What a batch is made of follows from the sizes alone: the same photos make the same batches at every start, on
    every number of cores and devices.

    Args:
        sizes: heights and widths of the photos in pixels, int [N, 2].
        batch_size: most photos in a batch.
        batch_pixels: most pixels of a batch's photos together; a photo that has more is alone.
        window: photos of neighbouring rows among which equal shapes are sought, so that reading stays nearly in order.

    Yields:
        The rows of each batch, ascending, int64 [n]; batches come in the order of their first rows, window by window.
    """
    for start in range(0, len(sizes), window):
        here = sizes[start : start + window]
        _, shape = np.unique(here, axis=0, return_inverse=True)
        found = []
        by_shape = np.argsort(shape.ravel(), kind="stable")
        for group in np.split(by_shape, np.flatnonzero(np.diff(shape.ravel()[by_shape])) + 1):
            most = max(1, min(batch_size, batch_pixels // int(here[group[0]].prod())))
            found += [group[first : first + most] for first in range(0, len(group), most)]
        for batch in sorted(found, key=lambda batch: batch[0]):
            yield start + batch
