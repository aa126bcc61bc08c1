"""NumPy arrays inside pickles, read as data: NumPy's own reconstruction is never called.

NumPy's `dtype.__setstate__` trusts what it is given: a made-up state can pass bytes of the file off as addresses of
Python objects. So a restricted unpickler gets the classes of this module in the place of NumPy's; they only note what
the pickle says, and `to_array` makes plain numbers of it after checking type, shape and length.
"""

import math

import numpy as np

_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


class StoredType:
    """Stands for `numpy.dtype`: the name of a type and its byte order.

    Args:
        name: as pickled, "f8" say.
        *flags: NumPy's align and copy, which say nothing about the numbers.
    """

    def __init__(self, name="", *flags):
        del flags
        self.name, self.order = name, "<"

    def __setstate__(self, state):
        """Notes the byte order, the second entry of what NumPy pickles."""
        self.order = state[1]

    def to_dtype(self) -> np.dtype:
        """Returns the type.

        Raises:
            ValueError: it is not a type of plain numbers.
        """
        name = self.name.decode("ascii") if isinstance(self.name, bytes) else self.name
        order = self.order.decode("ascii") if isinstance(self.order, bytes) else self.order
        if name not in _NUMBERS or order not in ("<", ">", "|", "="):
            raise ValueError(f"an array of the type {name!r} is stored, and numbers are wanted")
        return np.dtype(f"<{name}" if order in "|=" else f"{order}{name}")


class StoredArray:
    """Stands for `numpy.ndarray`: what the pickle says of one array."""

    def __init__(self, *ignored):
        del ignored
        self.state = None

    def __setstate__(self, state):
        """Notes NumPy's state: version, shape, type, whether columns come first, and the bytes."""
        self.state = state

    def to_array(self) -> np.ndarray:
        """Returns the array, a copy.

        Raises:
            ValueError: its parts do not fit each other, or it does not hold plain numbers.
        """
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("an array is stored without its state")
        _, shape, kind, columns_first, content = self.state
        known = isinstance(shape, tuple) and all(isinstance(side, int) and side >= 0 for side in shape)
        if not known or not isinstance(kind, StoredType) or not isinstance(content, bytes):
            raise ValueError("an array is stored in a form that NumPy does not write for numbers")
        dtype = kind.to_dtype()
        if len(content) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"an array of the shape {shape} is stored with {len(content)} bytes")
        numbers = np.frombuffer(content, dtype).astype(dtype.newbyteorder("="))
        return numbers.reshape(shape, order="F" if columns_first else "C")


def reconstruct(kind=StoredArray, *ignored) -> StoredArray:
    """Stands for NumPy's `_reconstruct`, which makes an empty array."""
    del kind, ignored
    return StoredArray()


def scalar(kind: StoredType, content: bytes = b"") -> StoredArray:
    """Stands for NumPy's `scalar`, which makes one number."""
    stored = StoredArray()
    stored.__setstate__((1, (), kind, False, content))
    return stored


def no_bytes() -> bytes:
    """Stands for `bytes`, which is called for the content of an empty array; it takes no arguments."""
    return b""


# NumPy 2 moved `core`; files of either age are read.
SAFE_GLOBALS = [
    (StoredType, "numpy.dtype"),
    (StoredArray, "numpy.ndarray"),
    (no_bytes, "builtins.bytes"),
    *((reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


def to_arrays(value):
    """Returns nested dictionaries, lists and tuples with their stored arrays as NumPy arrays, and the rest as it is.

    Raises:
        ValueError: see `StoredArray.to_array`.
    """
    if isinstance(value, StoredArray):
        return value.to_array()
    if isinstance(value, dict):
        return {key: to_arrays(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_arrays(entry) for entry in value) if type(value) in (list, tuple) else value
    return value
