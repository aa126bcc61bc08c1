"""Backbones by torchvision's names, and telling which one a checkpoint's tensors belong to."""

import dataclasses
import re

from tfretrieval.errors import InputError
from tfretrieval.importing.tensors import Tensors

_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.conv1\.weight$")
_FEATURE = re.compile(r"features\.(\d+)\.weight$")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One entry of `ARCHITECTURES`.

    Attributes:
        backbone: key of `BACKBONES` of the same arithmetic.
        blocks: residual blocks of each of the four stages; none for VGG.
        convolutions: of each residual block, or of the whole VGG.
    """

    backbone: str
    blocks: tuple[int, ...]
    convolutions: int


ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": Architecture("resnet18_v1_5", (2, 2, 2, 2), 2),
    "resnet34": Architecture("resnet34_v1_5", (3, 4, 6, 3), 2),
    "resnet50": Architecture("resnet50_v1_5", (3, 4, 6, 3), 3),
    "resnet101": Architecture("resnet101_v1_5", (3, 4, 23, 3), 3),
    "resnet152": Architecture("resnet152_v1_5", (3, 8, 36, 3), 3),
    "vgg16": Architecture("vgg16", (), 13),
    "vgg19": Architecture("vgg19", (), 16),
}


def resolve(tensors: Tensors, said: object, wanted: str | None) -> str:
    """Returns the architecture of a checkpoint.

    Args:
        tensors: its tensors.
        said: what the file says; None where it says nothing.
        wanted: what the user says.

    Returns:
        The file's word, else the user's, else the one that the number of layers tells.

    Raises:
        InputError: the two differ, there is none, or it is unknown here.
    """
    if said is not None and wanted and said != wanted:
        raise InputError(f"--architecture={wanted}, and --checkpoint={tensors.source} says {said}; leave the flag out.")
    name = said or wanted or _inferred(tensors)
    if name is None:
        raise InputError(
            f"--checkpoint={tensors.source} does not tell its architecture, and its {len(tensors)} tensors are of none "
            f"that is known; --architecture, one of {', '.join(ARCHITECTURES)}, is wanted."
        )
    if name not in ARCHITECTURES:
        found = f"--checkpoint={tensors.source} has the architecture {name}" if said else f"--architecture={name}"
        raise InputError(f"{found}, which is not known here; one of {', '.join(ARCHITECTURES)} is wanted.")
    return name


def _inferred(tensors: Tensors) -> str | None:
    """Returns the architecture with as many layers."""
    found = [_BLOCK.match(name) for name in tensors.names]
    stages = [int(match[1]) for match in found if match]
    features = [name for name in tensors.names if _FEATURE.match(name) and len(tensors.shape(name)) == 4]
    convolutions = len(features)
    if stages:
        convolutions = 3 if "layer1.0.conv3.weight" in tensors else 2
    blocks = tuple(stages.count(stage) for stage in (1, 2, 3, 4)) if stages else ()
    for name, architecture in ARCHITECTURES.items():
        if (architecture.blocks, architecture.convolutions) == (blocks, convolutions):
            return name
    return None
