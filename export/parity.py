"""Whether the network that was evaluated, its SavedModel and its server say the same."""

import dataclasses
import itertools

import numpy as np

from tfretrieval.errors import InputError


@dataclasses.dataclass(frozen=True)
class Parity:
    """Agreement of descriptors of the same photos, made in several ways.

    Attributes:
        ways: names of the ways.
        photos: number of photos compared.
        min_cosine: smallest cosine between two ways' descriptors of one photo, in [-1, 1].
        mean_cosine: mean cosine over photos and pairs of ways.
    """

    ways: tuple[str, ...]
    photos: int
    min_cosine: float
    mean_cosine: float


def compare(ways: dict[str, np.ndarray]) -> Parity:
    """Compares descriptors photo by photo, every way with every other.

    Args:
        ways: float32 [N, D] by the way's name, two or more, N at least 1.

    Returns:
        Their agreement, computed in float64.

    Raises:
        InputError: the shapes differ, there are no photos, or fewer than two ways.
    """
    shapes = {name: vectors.shape for name, vectors in ways.items()}
    if len(ways) < 2 or len(set(shapes.values())) != 1 or not next(iter(shapes.values()))[0]:
        raise InputError(
            f"descriptors of shapes {shapes} cannot be compared; two or more of one shape [N, D], N > 0, are wanted."
        )
    units = []
    for vectors in ways.values():
        exact = np.asarray(vectors, np.float64)
        units.append(exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12))
    cosines = np.array([(first * second).sum(axis=1) for first, second in itertools.combinations(units, 2)])
    return Parity(tuple(ways), cosines.shape[1], float(cosines.min()), float(cosines.mean()))
