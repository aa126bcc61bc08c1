"""Checkpoints of cnnimageretrieval-pytorch (Radenovic, Tolias, Chum, TPAMI 2018).

A file is `{"meta": {...}, "state_dict": {...}}`. `meta` tells architecture, pooling, mean and std, and may hold `Lw`,
whitenings fitted after training. The backbone is a sequence of torchvision's modules, by number; "pool.p" is GeM's
exponent, "whiten" the linear layer trained with the network, "lwhiten" one for each position, and with `regional`
"pool.rpool" the pooling of each region and "pool.whiten" the linear layer of regions.
"""

import re

from tfretrieval.errors import InputError
from tfretrieval.importing import architectures
from tfretrieval.importing.published import ImportOptions, Published, colours, dictionary, whitening_of
from tfretrieval.importing.tensors import Tensors

POOLINGS = {"gem": "gem", "gemmp": "gem", "mac": "mac", "spoc": "spoc", "rmac": "rmac"}
# Children of torchvision's ResNet, in order, that hold tensors.
_MODULES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_PARTS = (("pool.rpool.", "pool."), ("pool.whiten.", "regional."), ("lwhiten.", "local."))


def recognises(content: dict) -> bool:
    """Whether a file's content is of this format."""
    return isinstance(content.get("meta"), dict) and "state_dict" in content and not content["meta"].get("soa")


def read(source: str, content: dict, options: ImportOptions) -> Published:
    """Reads the description and the tensors.

    Args:
        source: the file, for errors.
        content: what it holds.
        options: what the user says.

    Raises:
        InputError: a part is missing or unknown here.
    """
    return describe(source, content, options, rename)


def describe(source: str, content: dict, options: ImportOptions, renamed) -> Published:
    """Reads what this format and those that follow it have in common.

    Args:
        source: the file, for errors.
        content: what it holds.
        options: what the user says.
        renamed: from (name, whether the backbone is a ResNet) to torchvision's name.

    Raises:
        InputError: a part is missing or unknown here.
    """
    meta, stored = dictionary(source, content, "meta"), dictionary(source, content, "state_dict")
    residual = str(meta.get("architecture") or options.architecture or "resnet").startswith("resnet")
    tensors = Tensors(source, stored, lambda name: renamed(name, residual))
    pooling = meta.get("pooling")
    if pooling not in POOLINGS:
        raise InputError(
            f"--checkpoint={source} has the pooling {pooling!r}, which is not known here; one of "
            f"{', '.join(POOLINGS)} is wanted."
        )
    if options.pooling and options.pooling != POOLINGS[pooling]:
        raise InputError(f"--pooling={options.pooling}, and --checkpoint={source} says {pooling}; leave the flag out.")
    return Published(
        format="cirtorch",
        architecture=architectures.resolve(tensors, meta.get("architecture"), options.architecture),
        tensors=tensors,
        pooling=POOLINGS[pooling],
        regional=bool(meta.get("regional")),
        mean=colours(source, "meta mean", meta.get("mean")),
        std=colours(source, "meta std", meta.get("std")),
        local_whitening=bool(meta.get("local_whitening")),
        whitening=bool(meta.get("whitening")),
        fitted=_fitted(source, meta.get("Lw")),
    )


def rename(name: str, residual: bool) -> str:
    """Returns torchvision's name of a tensor; VGG's convolutions are numbered as torchvision numbers them."""
    for theirs, ours in _PARTS:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    found = re.match(r"features\.(\d+)\.(.+)$", name)
    return f"{_MODULES[found[1]]}.{found[2]}" if residual and found and found[1] in _MODULES else name


def _fitted(source: str, stored: object) -> dict:
    """Returns the fitted whitenings, by the name of their data set and by "ss" and "ms"."""
    if stored is None:
        return {}
    fitted = dictionary(source, {"Lw": stored}, "Lw")
    return {
        name: {
            kind: whitening_of(source, f"{name} {kind}", entry)
            for kind, entry in dictionary(source, fitted, name).items()
        }
        for name in fitted
    }
