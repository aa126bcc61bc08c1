"""The tensors of a checkpoint, and which of them a network took."""

import re
from collections.abc import Callable, Mapping

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.importing.reading import to_numpy

# Counts of BatchNorm's updates: used by nobody once trained.
_COUNTERS = re.compile(r"num_batches_tracked$")


class Tensors:
    """The tensors of a checkpoint under torchvision's names, which notes what is taken.

    Args:
        source: the file, for errors.
        stored: what the file holds by name; entries that are no tensors are left out.
        rename: from the file's name to torchvision's ("features.0.weight" -> "conv1.weight").
    """

    def __init__(self, source: str, stored: Mapping[str, object], rename: Callable[[str], str] = str):
        self.source = source
        stored = {name.removeprefix("module."): value for name, value in stored.items() if isinstance(name, str)}
        arrays = {name: to_numpy(value) for name, value in stored.items()}
        self._arrays = {name: array for name, array in arrays.items() if array is not None}
        self._stored_as = {rename(name): name for name in self._arrays}
        self._taken: list[str] = []

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of this name, in torchvision's words."""
        return name in self._stored_as

    def __len__(self) -> int:
        return len(self._arrays)

    @property
    def names(self) -> list[str]:
        """Their names in torchvision's words."""
        return list(self._stored_as)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor.

        Raises:
            InputError: there is none of this name.
        """
        if name not in self:
            raise InputError(f"--checkpoint={self.source} has no tensor {name}, which its network needs.")
        return self._arrays[self._stored_as[name]].shape

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Returns a tensor and notes that it was used.

        Args:
            name: in torchvision's words.
            shape: what the network wants, in PyTorch's order.

        Returns:
            float32 of that shape.

        Raises:
            InputError: there is no such tensor, or it has another shape, or values that are not finite.
        """
        found, stored = self.shape(name), self._stored_as[name]
        array = self._arrays[stored]
        if found != tuple(shape):
            raise InputError(
                f"--checkpoint={self.source}: {stored} has the shape {list(found)}; {list(shape)} is wanted."
            )
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise InputError(f"--checkpoint={self.source}: {stored} holds values that are not finite.")
        self._taken.append(stored)
        return array

    def used(self) -> list[str]:
        """Returns the file's names of what was taken, in the order of taking."""
        return list(dict.fromkeys(self._taken))

    def unused(self) -> list[str]:
        """Returns the file's names of what was not taken, counters of BatchNorm left out."""
        taken = set(self._taken)
        return [name for name in self._arrays if name not in taken and not _COUNTERS.search(name)]
