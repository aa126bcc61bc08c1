"""Checkpoints of deep-image-retrieval (Gordo et al., IJCV 2017; Revaud et al., ICCV 2019).

A file is `{"state_dict": {...}, "model_options": {...}, "preprocess": {...}}`. The names are torchvision's; "adpool.p"
is GeM's exponent and "fc" the linear layer after it. With `norm_features` the pooled vector gets length 1 before that
layer. The whitening is an object of scikit-learn, which `read_checkpoint` refuses.
"""

from tfretrieval.errors import InputError
from tfretrieval.importing import architectures
from tfretrieval.importing.published import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImportOptions,
    Published,
    colours,
    dictionary,
)
from tfretrieval.importing.tensors import Tensors

POOLINGS = {"max": "mac", "avg": "spoc", "gem": "gem"}


def recognises(content: dict) -> bool:
    """Whether a file's content is of this format."""
    return isinstance(content.get("model_options"), dict) and "state_dict" in content


def read(source: str, content: dict, options: ImportOptions) -> Published:
    """Reads the description and the tensors.

    Args:
        source: the file, for errors.
        content: what it holds.
        options: what the user says.

    Raises:
        InputError: a part is missing or unknown here.
    """
    settings = dictionary(source, content, "model_options")
    tensors = Tensors(source, dictionary(source, content, "state_dict"), rename)
    architecture = str(settings.get("arch") or "")
    if not architecture.endswith("_rmac"):
        raise InputError(
            f"--checkpoint={source} has the arch {architecture!r} in model_options; resnet50_rmac, say, is wanted."
        )
    said = str(settings.get("pooling", "gem"))
    pooling = POOLINGS.get("gem" if said.startswith("gem") else said)
    if pooling is None:
        raise InputError(f"--checkpoint={source} has the pooling {said!r}; one of {', '.join(POOLINGS)} is wanted.")
    if options.pooling and options.pooling != pooling:
        raise InputError(f"--pooling={options.pooling}, and --checkpoint={source} says {said}; leave the flag out.")
    if settings.get("center_bias"):
        raise InputError(
            f"--checkpoint={source} has the center_bias {settings['center_bias']}; a network without one is wanted."
        )
    before = content.get("preprocess") or {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    return Published(
        format="dirtorch",
        architecture=architectures.resolve(tensors, architecture.removesuffix("_rmac"), options.architecture),
        tensors=tensors,
        pooling=pooling,
        mean=colours(source, "preprocess mean", before.get("mean")),
        std=colours(source, "preprocess std", before.get("std")),
        normalized=bool(settings.get("norm_features")),
        whitening=not settings.get("without_fc"),
        heads=("fc.",) if settings.get("without_fc") else (),
    )


def rename(name: str) -> str:
    """Returns torchvision's name of a tensor, and "whiten" for the linear layer."""
    for theirs, ours in (("adpool.", "pool."), ("fc.", "whiten.")):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
