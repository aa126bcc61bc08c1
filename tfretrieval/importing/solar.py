"""Checkpoints of SOLAR (Ng, Balntas, Tian, Mikolajczyk, "SOLAR: Second-Order Loss and Attention for Image Retrieval").

As cirtorch's, with `soa` and `soa_layers` ("45": after the fourth and the fifth group of convolutions) in `meta`. The
backbone's groups are named conv1 to conv5_x, the attention soa4 and soa5.
"""

import dataclasses
import re

from tfretrieval.errors import InputError
from tfretrieval.importing import cirtorch
from tfretrieval.importing.published import ImportOptions, Published

_GROUPS = {
    "conv1.0": "conv1",
    "conv1.1": "bn1",
    "conv2_x.2": "layer1",
    "conv3_x": "layer2",
    "conv4_x": "layer3",
    "conv5_x": "layer4",
}
_GROUP = re.compile(rf"features\.({'|'.join(map(re.escape, _GROUPS))})\.(.+)$")


def recognises(content: dict) -> bool:
    """Whether a file's content is of this format."""
    return isinstance(content.get("meta"), dict) and "state_dict" in content and bool(content["meta"].get("soa"))


def read(source: str, content: dict, options: ImportOptions) -> Published:
    """Reads the description and the tensors; see `cirtorch.read`."""
    published = cirtorch.describe(source, content, options, rename)
    layers = str(content["meta"].get("soa_layers") or "")
    if not layers or set(layers) - {"4", "5"}:
        raise InputError(f"--checkpoint={source} has the soa_layers {layers!r}; '4', '5' or '45' is wanted.")
    if not published.architecture.startswith("resnet"):
        raise InputError(f"--checkpoint={source} has the architecture {published.architecture}; a ResNet is wanted.")
    return dataclasses.replace(published, format="solar", attention=tuple(sorted(map(int, set(layers)))))


def rename(name: str, residual: bool) -> str:
    """Returns torchvision's name of a tensor."""
    found = _GROUP.match(name)
    if found:
        return f"{_GROUPS[found[1]]}.{found[2]}"
    return name.removeprefix("features.") if name.startswith("features.soa") else cirtorch.rename(name, residual)
