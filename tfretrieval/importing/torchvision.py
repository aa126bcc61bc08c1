"""State dictionaries of torchvision's ResNets and VGGs: classifiers, whose convolutions make an off-the-shelf network.

The file tells neither pooling nor scaling of photos: GeM with p = 3 unless another pooling is asked for, and ImageNet's
mean and deviation, which torchvision's weights were trained with.
"""

from tfretrieval.importing import architectures
from tfretrieval.importing.published import ImportOptions, Published
from tfretrieval.importing.tensors import Tensors

HEADS = ("fc.", "classifier.")


def recognises(content: dict) -> bool:
    """Whether a file's content is of this format."""
    names = {name.removeprefix("module.") for name in _stored(content) if isinstance(name, str)}
    return bool(names & {"layer1.0.conv1.weight", "features.0.weight"})


def read(source: str, content: dict, options: ImportOptions) -> Published:
    """Reads the tensors.

    Args:
        source: the file, for errors.
        content: what it holds.
        options: what the user says.

    Raises:
        InputError: the architecture is unknown here.
    """
    tensors = Tensors(source, _stored(content))
    return Published(
        format="torchvision",
        architecture=architectures.resolve(tensors, None, options.architecture),
        tensors=tensors,
        pooling=options.pooling or "gem",
        heads=HEADS,
    )


def _stored(content: dict) -> dict:
    """Returns the dictionary of tensors."""
    return content["state_dict"] if isinstance(content.get("state_dict"), dict) else content
