"""`checksums.json`: SHA-256 of every file of an export."""

from pathlib import Path

from tfretrieval import files

CHECKSUMS = "checksums.json"


def write_checksums(folder: Path) -> None:
    """Lists the files that a folder holds now, with their sizes in bytes and SHA-256."""
    listed = {name: {"bytes": path.stat().st_size, "sha256": files.sha256(path)} for name, path in _files(folder)}
    files.write_json(folder / CHECKSUMS, {"files": listed})


def wrong_files(folder: Path) -> list[str]:
    """Compares a folder with its list.

    Returns:
        A sentence for each file that is missing, changed, or not listed.

    Raises:
        InputError: there is no list, or it is none.
    """
    listed = files.read_json(folder / CHECKSUMS, "the checksums of an export").get("files")
    if not isinstance(listed, dict) or not listed:
        return [f"{CHECKSUMS} lists no files"]
    found, wrong = dict(_files(folder)), []
    for name, told in sorted(listed.items()):
        if name not in found:
            wrong.append(f"{name} is missing")
        elif not isinstance(told, dict) or files.sha256(found[name]) != told.get("sha256"):
            wrong.append(f"{name} has changed: its SHA-256 is not the one in {CHECKSUMS}")
    return wrong + [f"{name} is not listed in {CHECKSUMS}" for name in found if name not in listed]


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Returns the files below a folder by their relative names, sorted, without the list itself."""
    named = ((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    return sorted((name, path) for name, path in named if name != CHECKSUMS)
