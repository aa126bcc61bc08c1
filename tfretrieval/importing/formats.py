"""The published formats by name."""

from pathlib import Path

from tfretrieval.errors import InputError
from tfretrieval.importing import cirtorch, cvnet, dirtorch, solar, torchvision
from tfretrieval.importing.published import ImportOptions, Published
from tfretrieval.importing.reading import read_checkpoint

# In the order in which a file's format is looked for: the ones that say most of themselves first.
FORMATS = {"cirtorch": cirtorch, "solar": solar, "dirtorch": dirtorch, "cvnet": cvnet, "torchvision": torchvision}


def read_published(path: str | Path, format_name: str, options: ImportOptions) -> Published:
    """Reads a checkpoint of any of the formats.

    Args:
        path: the file.
        format_name: key of `FORMATS`, or "auto" to tell it from the content.
        options: what the user says where the file does not.

    Returns:
        What the file says of its network, and its tensors.

    Raises:
        InputError: the file cannot be read or is of another format; see `read_checkpoint` and the formats' `read`.
    """
    content = read_checkpoint(path)
    if format_name != "auto":
        return FORMATS[format_name].read(str(path), content, options)
    for module in FORMATS.values():
        if module.recognises(content):
            return module.read(str(path), content, options)
    held = ", ".join(map(str, list(content)[:5])) or "nothing"
    raise InputError(
        f"--checkpoint={path} holds {held}, which is none of the formats {', '.join(FORMATS)}; a checkpoint of one of "
        "them is wanted."
    )
