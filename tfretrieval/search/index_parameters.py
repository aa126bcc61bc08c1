"""What a search in an index can be told: how many lists to look into, how far to follow a graph, how many to refine.

More of each finds more and takes longer.
"""

import functools
from collections.abc import Mapping

from tfretrieval.errors import InputError
from tfretrieval.search.index_factory import faiss, parts

# Parameters that trade time for recall; Faiss knows further ones, which belong to ways of search not used here.
_TRADED = ("nprobe", "efSearch", "k_factor_rf", "quantizer_nprobe", "quantizer_efSearch", "quantizer_k_factor_rf")


def parameter_values(searched) -> dict[str, list[int]]:
    """Returns the parameters of an index, by name, and the values worth trying, rising: powers of 2, and all lists.

    Args:
        searched: a `faiss.Index`.
    """
    space = faiss().ParameterSpace()
    space.initialize(searched)
    found = {}
    for at in range(space.parameter_ranges.size()):
        offered = space.parameter_ranges.at(at)
        if offered.name in _TRADED:
            found[offered.name] = [int(offered.values.at(place)) for place in range(offered.values.size())]
    ivf = faiss().try_extract_index_ivf(searched)
    if ivf is not None:
        found["nprobe"] = [value for value in found.get("nprobe", []) if value < ivf.nlist] + [ivf.nlist]
    return found


def check_parameters(searched, parameters: Mapping[str, int]) -> None:
    """Checks that an index has parameters of these names.

    Raises:
        InputError: it has not, or a value is not a whole number of at least 1.
    """
    known = parameter_values(searched)
    for name, value in parameters.items():
        if name not in known:
            wanted = f"one of {', '.join(known)} is" if known else "none is"
            raise InputError(f"--parameters: {name!r} is not a parameter of this index; {wanted} wanted.")
        if not isinstance(value, int) or value < 1:
            raise InputError(f"--parameters: {name}={value}; a whole number of at least 1 is wanted.")


def read_parameters(searched) -> dict[str, int]:
    """Returns the parameters that an index has now, by name."""
    return {name: _value(searched, name) for name in parameter_values(searched)}


def _value(searched, name: str) -> int:
    if name.startswith("quantizer_"):
        return _value(faiss().try_extract_index_ivf(searched).quantizer, name.removeprefix("quantizer_"))
    fields = {"nprobe": ("nprobe",), "efSearch": ("hnsw", "efSearch"), "k_factor_rf": ("k_factor",)}[name]
    holders = (part for part in parts(searched, inner=("index", "base_index")) if hasattr(part, fields[0]))
    return int(functools.reduce(getattr, fields, next(holders)))


def set_parameters(searched, parameters: Mapping[str, int]) -> None:
    """Sets parameters of an index that has them."""
    space = faiss().ParameterSpace()
    for name, value in parameters.items():
        space.set_index_parameter(searched, name, value)


def parse_parameters(text: str) -> dict[str, int]:
    """Reads `name=value,name=value`, the value of --parameters.

    Raises:
        InputError: a part of another form, or a name twice.
    """
    found: dict[str, int] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if not value.isdecimal() or name in found:
            raise InputError(f"--parameters={text}: {part!r}; each name once, as nprobe=16,k_factor_rf=4, is wanted.")
        found[name] = int(value)
    return found


def written(parameters: Mapping[str, int]) -> str:
    """Returns parameters as --parameters takes them."""
    return ",".join(f"{name}={value}" for name, value in parameters.items())
