"""Version folders on disk: which are complete, which of them a policy serves, whether they are still changing."""

import contextlib
import dataclasses
from collections.abc import Iterable
from pathlib import Path

from tensorflow_serving.config import file_system_storage_path_source_pb2

PolicyProto = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy


def complete_versions(base_path: str | Path) -> dict[int, Path]:
    """Returns the version folders below `base_path` that hold a SavedModel, by version number.

    A version folder is named by a whole number; one without `saved_model.pb`, or without all the files that its
    `variables` are said to have, is still being copied and is left out.

    Raises:
        OSError: `base_path` cannot be listed.
    """
    return {
        int(folder.name): folder
        for folder in Path(base_path).iterdir()
        if folder.name.isascii() and folder.name.isdecimal() and int(folder.name) < 2**63 and _is_complete(folder)
    }


def _is_complete(folder: Path) -> bool:
    variables = folder / "variables"
    if not (folder / "saved_model.pb").is_file():
        return False
    if not variables.is_dir():  # a model without variables has none; one that misses them does not load
        return True
    shards = [path.name.rsplit("-of-", 1) for path in variables.glob("variables.data-*-of-*")]
    counts = {int(count) for _, count in shards if count.isdecimal()}
    return (variables / "variables.index").is_file() and counts == {len(shards)}


def fingerprint(folder: Path) -> tuple:
    """Returns what changes while a folder is being copied: names, sizes and times of its files."""
    found = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            known = path.stat()
            found.append((str(path), known.st_size, known.st_mtime_ns))
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Which versions of a model are served, by the rules of the real server's `ServableVersionPolicy`.

    Attributes:
        latest: how many of the highest versions; None where another rule holds.
        specific: the versions to serve; None where another rule holds. With both None, all are served.
    """

    latest: int | None = 1
    specific: frozenset[int] | None = None

    @classmethod
    def of(cls, proto: PolicyProto) -> "VersionPolicy":
        """Returns the policy that a configuration asks for; the latest version where it asks for none.

        Raises:
            ValueError: `specific` names no version or a negative one.
        """
        choice = proto.WhichOneof("policy_choice")
        if choice == "all":
            return cls(latest=None)
        if choice == "specific":
            versions = frozenset(proto.specific.versions)
            if not versions or min(versions) < 0:
                raise ValueError(f"model_version_policy.specific names {sorted(versions)}; version numbers are wanted")
            return cls(latest=None, specific=versions)
        return cls(latest=proto.latest.num_versions or 1)

    def choose(self, versions: Iterable[int]) -> set[int]:
        """Returns which of the versions that there are shall be served."""
        if self.specific is not None:
            return self.specific & set(versions)
        ordered = sorted(versions, reverse=True)
        return set(ordered if self.latest is None else ordered[: self.latest])
