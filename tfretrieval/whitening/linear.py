"""The whitening as a value: an affine map of descriptors, on disk as one npz file."""

import dataclasses
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tfretrieval.errors import InputError


@dataclasses.dataclass(frozen=True)
class Whitening:
    """An affine map of descriptors, followed by L2: x -> normalise(projection (x - mean)).

    Attributes:
        mean: float32 [D], finite.
        projection: float32 [d, D], d <= D, finite.
        facts: how it was fitted: method, samples, shrinkage and so on, as JSON can hold them.
    """

    mean: np.ndarray
    projection: np.ndarray
    facts: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.mean.ndim != 1 or self.projection.ndim != 2 or self.projection.shape[1] != len(self.mean):
            raise InputError(
                f"a whitening has a mean of shape {self.mean.shape} and a projection of shape {self.projection.shape}; "
                "[D] and [d, D] are wanted."
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.projection).all()):
            raise InputError("a whitening holds NaN or infinity; finite numbers are wanted.")

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Whitens descriptors: float32 [N, D] -> float32 [N, d], rows of length 1."""
        whitened = (vectors - self.mean) @ self.projection.T
        return whitened / np.maximum(np.linalg.norm(whitened, axis=1, keepdims=True), 1e-12)

    def save(self, path: str | Path) -> None:
        """Writes an npz file with `mean`, `projection` and `facts`, a JSON text."""
        np.savez(path, mean=self.mean, projection=self.projection, facts=json.dumps(self.facts))

    @classmethod
    def load(cls, path: str | Path) -> "Whitening":
        """Reads what `save` wrote; `facts` may be missing.

        Raises:
            InputError: the file is missing or holds something else.
        """
        wanted = "an npz file of pipelines.whiten is wanted"
        stored = read_arrays(path, f"{path} is not a whitening", wanted)
        try:
            mean, projection = (np.asarray(stored[name], np.float32) for name in ("mean", "projection"))
            facts = json.loads(str(stored["facts"])) if "facts" in stored else {}
            return cls(mean, projection, facts)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except (ValueError, KeyError) as error:
            raise InputError(f"{path} is not a whitening ({error}); {wanted}.") from error


def read_arrays(path: str | Path, complaint: str, wanted: str) -> dict[str, np.ndarray]:
    """Reads all arrays of an npz file; pickled ones are refused.

    Args:
        path: the file.
        complaint: how the error's sentence begins.
        wanted: how it ends.

    Raises:
        InputError: the file is missing or broken, or is no npz file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{complaint} ({error}); {wanted}.") from error
