"""Files as workers see them: under the same paths as here, or in a store that Beam reaches by a URL."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from apache_beam.io.filesystems import FileSystems


@dataclasses.dataclass(frozen=True)
class Places:
    """Tells where workers find what is at a path here.

    Attributes:
        mounts: (local, remote) prefixes: what is below `local` on the machine that starts the job is below `remote`
            for workers, a URL that Beam opens or another path. Other paths are the same everywhere.
    """

    mounts: tuple[tuple[str, str], ...] = ()

    def url(self, path: str | Path) -> str | None:
        """Returns where workers find a file; None where that is the path itself."""
        path = os.path.abspath(path)  # noqa: PTH100 - links are not followed: a mount may be one
        for local, remote in self.mounts:
            if path == local or path.startswith(f"{local}/"):
                return remote + path[len(local) :]
        return None

    def read_bytes(self, path: str | Path) -> bytes:
        """Returns the bytes of a file.

        Raises:
            OSError: it cannot be read.
        """
        url = self.url(path)
        if url is None:
            return Path(path).read_bytes()
        with FileSystems.open(url) as file:
            return file.read()

    def put(self, scratch: Path, path: Path) -> None:
        """Copies a finished file to its place, where it appears whole or not at all.

        Workers that do the same work at the same time, as runners let them, do not hinder each other.
        """
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
        url = self.url(path)
        if url is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with scratch.open("rb") as source, partial.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            os.replace(partial, path)  # noqa: PTH105 - the one call that is atomic on every platform
            return
        at = self.url(partial)
        with contextlib.suppress(OSError):  # it is there already; object stores have no folders at all
            FileSystems.mkdirs(url.rsplit("/", 1)[0])
        with scratch.open("rb") as source, FileSystems.create(at, "application/octet-stream") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        FileSystems.rename([at], [url])

    @contextlib.contextmanager
    def fetched(self, *paths: Path) -> Iterator[list[Path]]:
        """Yields local files, or whole folders, with the contents of `paths`; copies go when the block ends."""
        with tempfile.TemporaryDirectory() as scratch:
            yield [self.fetch(path, Path(scratch) / str(place)) for place, path in enumerate(paths)]

    def fetch(self, path: Path, folder: Path) -> Path:
        """Returns a local file or folder with the contents of `path`: itself, or a copy in `folder`."""
        url = self.url(path)
        if url is None:
            return path
        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / path.name
        (found,) = FileSystems.match([f"{url}/**"])
        files = [item.path for item in found.metadata_list] or [url]
        for file in files:
            target = copy if file == url else copy / file[len(url) + 1 :]
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileSystems.open(file) as source, target.open("wb") as written:
                shutil.copyfileobj(source, written, 1 << 20)
        return copy


@dataclasses.dataclass(frozen=True)
class PlacedFile:
    """A file that is read where workers find it, in the place of a `Path`."""

    path: Path
    places: Places

    def read_bytes(self) -> bytes:
        """Returns its bytes."""
        return self.places.read_bytes(self.path)

    def __str__(self) -> str:
        return str(self.path)
