"""What a published checkpoint says of its network, whatever its format."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.importing.tensors import Tensors
from tfretrieval.whitening import Whitening

# Of torchvision's classifiers, which the published descriptor networks begin from.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """What the user says where the file does not.

    Attributes:
        architecture: torchvision's name ("resnet101"); read from the file or from its tensors when not given.
        pooling: key of `POOLINGS`; the file's when not given, gem where it has none.
    """

    architecture: str | None = None
    pooling: str | None = None


@dataclasses.dataclass(frozen=True)
class Published:
    """A published descriptor network and its tensors.

    Attributes:
        format: key of `FORMATS`.
        architecture: key of `ARCHITECTURES`.
        tensors: under torchvision's names; "pool.p", "whiten.weight", "local.weight", "regional.weight" and their
            biases, and "soa4.f.0.weight" and its like for what torchvision does not have.
        pooling: key of `POOLINGS`.
        regional: whether the pooling is that of cirtorch's regions, with a linear layer for each region.
        mean: of RGB in [0, 1].
        std: of RGB in [0, 1].
        bgr: whether the network was trained on photos with blue first.
        attention: numbers of the ResNet stages (4 is torchvision's layer3) that second-order attention follows.
        local_whitening: whether a linear layer is applied to each position before pooling.
        normalized: whether pooled vectors get length 1 before the linear layer.
        whitening: whether a linear layer follows the pooling.
        fitted: whitenings fitted after training by name, for descriptors of one scale ("ss") and of several ("ms").
        heads: beginnings of the names of tensors that retrieval does not use, classifiers' say.
    """

    format: str
    architecture: str
    tensors: Tensors
    pooling: str = "gem"
    regional: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    bgr: bool = False
    attention: tuple[int, ...] = ()
    local_whitening: bool = False
    normalized: bool = True
    whitening: bool = False
    fitted: Mapping[str, Mapping[str, Whitening]] = dataclasses.field(default_factory=dict)
    heads: tuple[str, ...] = ()


def colours(source: str, name: str, value: object) -> tuple[float, float, float]:
    """Returns three finite numbers, one for each of red, green and blue.

    Args:
        source: the file, for the error.
        name: what they are, for the error.
        value: as the file has it: a list, tuple, array or tensor.

    Raises:
        InputError: they are not three finite numbers.
    """
    try:
        numbers = tuple(float(number) for number in np.asarray(value, np.float64).reshape(-1))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)) or (name.endswith("std") and 0.0 in numbers):
        raise InputError(f"--checkpoint={source} has the {name} {value!r}; three numbers are wanted.")
    return numbers


def dictionary(source: str, content: Mapping, name: str) -> dict:
    """Returns an entry that is a dictionary.

    Raises:
        InputError: it is missing or is something else.
    """
    value = content.get(name)
    if not isinstance(value, dict):
        found = "no" if value is None else f"a {type(value).__name__} as"
        raise InputError(f"--checkpoint={source} has {found} {name}; a dictionary is wanted.")
    return value


def whitening_of(source: str, name: str, stored: object) -> Whitening:
    """Returns cirtorch's fitted whitening, a dictionary of m [D, 1] and P [D, D], as one of this toolkit.

    Raises:
        InputError: it is not such a dictionary.
    """
    try:
        mean, projection = (np.asarray(stored[key], np.float32) for key in ("m", "P"))
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"--checkpoint={source}: the whitening {name} is not a dictionary of m and P.") from error
    return Whitening(mean.reshape(-1), projection)
