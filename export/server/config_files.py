"""Reading configuration files: text protos of strangers, refused in one sentence."""

from pathlib import Path
from typing import TypeVar

from google.protobuf import message, text_format

from export.server.config_protos import POOL
from tfretrieval.errors import InputError

Message = TypeVar("Message", bound=message.Message)

# Real files have some kilobytes; a larger one is a mistake, and costs memory before it is found out.
MAX_CONFIG_BYTES = 2**20


def read_text_proto(path: str | Path, into: Message, flag: str) -> Message:
    """Reads a text proto file.

    Args:
        path: the file.
        into: an empty message of the wanted type, which is filled.
        flag: the flag that named the file.

    Returns:
        `into`.

    Raises:
        InputError: the file is missing, no regular file, too large, not text, or not such a message.
    """
    path, wanted = Path(path), into.DESCRIPTOR.name
    if not path.is_file():
        found = "is no regular file" if path.exists() else "is missing"
        raise InputError(f"--{flag}={path} {found}; a text file with a {wanted} is wanted.")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise InputError(f"--{flag}={path} is larger than {MAX_CONFIG_BYTES} bytes; a {wanted} is wanted.")
        return text_format.Parse(content.decode(), into, descriptor_pool=POOL)
    except text_format.ParseError as error:
        reason = _one_line(str(error))
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except RecursionError:
        reason = "it is nested too deeply"
    except OSError as error:
        reason = error.strerror.lower()
    raise InputError(f"--{flag}={path} cannot be read as a {wanted}: {reason}.")


def _one_line(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= 200 else line[:200] + "..."
