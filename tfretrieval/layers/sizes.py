"""Arithmetic on the sides of maps, which are ints, or tensors where a graph is traced without knowing them."""

import numpy as np
from keras import ops


class _Known:
    """The functions of `keras.ops` that sizes need, on NumPy.

    Known sizes must not become tensors: JAX compiles no shape that depends on one.
    """

    abs, arange, argmin, array, ceil, floor, maximum, minimum, round, where = (
        np.abs, np.arange, np.argmin, np.array, np.ceil, np.floor, np.maximum, np.minimum, np.round, np.where
    )  # fmt: skip

    @staticmethod
    def cast(values, dtype):
        return np.asarray(values).astype(dtype)


def numbers(*lengths):
    """Returns what to compute with: NumPy's functions when all lengths are ints, else `keras.ops`."""
    return _Known if all(isinstance(length, int) for length in lengths) else ops
