"""Files that appear whole or not at all, and their hashes."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tfretrieval.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None


def sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_tree(directory: str | Path) -> str:
    """Returns one SHA-256 over a directory: relative paths and hashes of all its files, in sorted order."""
    directory = Path(directory)
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(directory).as_posix()}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file atomically: readers see the old file or the whole new one."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)  # noqa: PTH105 - the one call that is atomic on every platform


@contextlib.contextmanager
def durable(path: str | Path) -> Iterator[BinaryIO]:
    """Yields a file to write bytes to, which becomes `path` when it is whole and on the disk itself.

    Whatever ends the process or the machine, `path` is then what it was before or all that was written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)  # noqa: PTH105 - see write_text
    if os.name == "posix":  # where a directory can be opened, and its entries are written when they please
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextlib.contextmanager
def locked(path: str | Path, otherwise: str) -> Iterator[None]:
    """Holds a lock on a file while its block runs; it goes with the process, however that ends.

    Where the system has no such locks (Windows), nothing is held.

    Args:
        path: the file, made where it is not there.
        otherwise: the sentence to say where another process holds it.

    Raises:
        InputError: another process holds it.
    """
    with Path(path).open("wb") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(otherwise) from None
        yield


def write_json(path: str | Path, value: object) -> None:
    """Writes a value as indented JSON, atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path, what: str) -> dict:
    """Reads a JSON object.

    Args:
        path: the file.
        what: what the file is, for the error's sentence ("a record set's description").

    Returns:
        The object as a dictionary.

    Raises:
        InputError: the file is missing, is not JSON, or holds something other than an object.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing; {what} is wanted there.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); {what} is wanted there.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a JSON {type(value).__name__}; {what}, a JSON object, is wanted there.")
    return value


@contextlib.contextmanager
def atomic_directory(output: str | Path, marker: str) -> Iterator[Path]:
    """Yields a directory to fill, which becomes `output` only if the block ends without an error.

    Args:
        output: the directory to make. Its parents are created.
        marker: name of a file that every finished directory of this kind holds. An existing `output` is replaced
            when it is empty or holds that file, and refused otherwise, so that a mistyped flag deletes nothing.

    Yields:
        A fresh directory beside `output`, on the same file system.

    Raises:
        InputError: `output` exists, is not empty and does not hold `marker`.
    """
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; a directory to write is wanted.")
    if output.is_dir() and any(output.iterdir()) and not (output / marker).is_file():
        raise InputError(f"{output} holds other files and no {marker}; an empty or new directory is wanted.")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.partial-", dir=output.parent))
    partial.chmod(0o755)  # mkdtemp makes it private; the finished directory is for everyone who may read its parent
    try:
        yield partial
        if output.is_dir():
            replaced = partial.with_name(f"{partial.name}.replaced")
            output.rename(replaced)
            partial.rename(output)
            shutil.rmtree(replaced)
        else:
            partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
