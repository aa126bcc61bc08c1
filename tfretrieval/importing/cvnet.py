"""Checkpoints of CVNet (Lee et al., CVPR 2022), which SuperGlobal (Shao et al., ICCV 2023) describes with as well.

A file is a dictionary of tensors, or holds it as "model_state". The names are those of pycls, below a prefix
("encoder_q."): stem, s1 to s4 with blocks b1, b2, ..., and a head with GeM's exponent and the linear layer. Other
tensors are the re-ranker's. The file does not tell how photos are scaled: CVNet's code gives them blue first, less
ImageNet's mean and over its deviation.
"""

import re

from tfretrieval.errors import InputError
from tfretrieval.importing import architectures
from tfretrieval.importing.published import ImportOptions, Published
from tfretrieval.importing.tensors import Tensors

# SuperGlobal's exponent takes the place of the learnt one.
_POOLINGS = ("gem", "superglobal")
_STEM = "stem.conv.weight"
_HEAD = {"head.pool.p": "pool.p", "head.fc.weight": "whiten.weight", "head.fc.bias": "whiten.bias"}
_IN_BLOCK = {
    "proj": "downsample.0",
    "bn": "downsample.1",
    "f.a": "conv1",
    "f.a_bn": "bn1",
    "f.b": "conv2",
    "f.b_bn": "bn2",
    "f.c": "conv3",
    "f.c_bn": "bn3",
}
_BLOCK = re.compile(r"s([1-4])\.b(\d+)\.(proj|bn|f\.[abc]|f\.[abc]_bn)\.(\w+)$")


def recognises(content: dict) -> bool:
    """Whether a file's content is of this format."""
    return _prefix(_stored(content)) is not None


def read(source: str, content: dict, options: ImportOptions) -> Published:
    """Reads the tensors.

    Args:
        source: the file, for errors.
        content: what it holds.
        options: what the user says; the pooling is CVNet's gem unless it is superglobal.

    Raises:
        InputError: a part is missing or unknown here.
    """
    stored = _stored(content)
    prefix = _prefix(stored)
    if prefix is None:
        raise InputError(f"--checkpoint={source} has no tensor whose name ends in {_STEM}; CVNet's has.")
    tensors = Tensors(source, stored, lambda name: rename(name.removeprefix("module."), prefix))
    pooling = options.pooling or "gem"
    if pooling not in _POOLINGS:
        raise InputError(f"--pooling={pooling} with --format=cvnet; one of {', '.join(_POOLINGS)} is wanted.")
    return Published(
        format="cvnet",
        architecture=architectures.resolve(tensors, None, options.architecture),
        tensors=tensors,
        pooling=pooling,
        bgr=True,
        normalized=pooling == "superglobal",
        whitening=True,
    )


def rename(name: str, prefix: str) -> str:
    """Returns torchvision's name of a tensor below the prefix, and the name itself of any other."""
    if not name.startswith(prefix):
        return name
    own = name.removeprefix(prefix)
    found = _BLOCK.match(own)
    if found:
        return f"layer{found[1]}.{int(found[2]) - 1}.{_IN_BLOCK[found[3]]}.{found[4]}"
    if own.startswith("stem."):
        return own.replace("stem.conv.", "conv1.").replace("stem.bn.", "bn1.")
    return _HEAD.get(own, name)


def _stored(content: dict) -> dict:
    """Returns the dictionary of tensors."""
    for key in ("model_state", "state_dict"):
        if isinstance(content.get(key), dict):
            return content[key]
    return content


def _prefix(stored: dict) -> str | None:
    """Returns what stands before the stem's name; None where there is no stem."""
    names = [name.removeprefix("module.") for name in stored if isinstance(name, str) and name.endswith(_STEM)]
    return min(names, key=len).removesuffix(_STEM) if names else None
