"""An approximate index of descriptors on disk: searched through memory maps, with photos added and deleted by id.

A directory holds

| file | content |
|---|---|
| `index.faiss` | the index as Faiss writes it |
| `lists.faiss` | of an IVF index, its inverted lists, which are mapped and never read whole |
| `refine.faiss` | of an index that ends in a refining stage, the codes of that stage, mapped likewise |
| `ids.txt` | ids of the N photos, one a line; their order is the rows of rankings |
| `numbers.npy` | int64 [N], rising: the number by which the index knows each photo |
| `index.json` | what made it: flags, versions, seed, hash of the descriptors, factory, sample, parameters |

None of these files is changed once it is written: adding and deleting make a new directory, which takes the place of
the old one when it is whole.
"""

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfretrieval import files
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.search import index_factory
from tfretrieval.search.exact import Progress, check_descriptors, rank_keys, told
from tfretrieval.search.index_factory import IndexOptions, faiss, unit
from tfretrieval.search.index_parameters import check_parameters, read_parameters, set_parameters, written
from tfretrieval.search.ranking import Ranking

INDEX, LISTS, REFINE = "index.faiss", "lists.faiss", "refine.faiss"
_LARGE = INDEX, LISTS, REFINE
IDS, NUMBERS, MARKER = "ids.txt", "numbers.npy", "index.json"
_QUERIES_AT_A_TIME = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class SearchIndex:
    """An index that is open for searching. Not to be searched and given other parameters at the same time.

    Attributes:
        ids: ids of the N photos, in the order of the rows of rankings.
        numbers: int64 [N], rising, the numbers of these photos in `searched`, which may know deleted ones too.
        meta: the content of `index.json`.
        searched: the `faiss.Index`.
    """

    ids: tuple[str, ...]
    numbers: np.ndarray
    meta: dict
    searched: object

    @classmethod
    def load(cls, directory: str | Path) -> "SearchIndex":
        """Opens an index; codes and lists are memory-mapped as far as Faiss can.

        Raises:
            InputError: files are missing, unreadable, or do not belong together; Faiss is not installed.
        """
        directory = Path(directory)
        meta = files.read_json(directory / MARKER, "the description of an index that pipelines.index wrote")
        _check_sizes(directory, meta.get("files"))
        try:
            ids = tuple((directory / IDS).read_text(encoding="utf-8").split("\n")[:-1])
            numbers = np.load(directory / NUMBERS, allow_pickle=False)
            searched = index_factory.read(directory / INDEX, directory / REFINE, meta.get("mapped_lists", False))
        except (OSError, ValueError, EOFError, RuntimeError) as error:
            raise InputError(f"{directory} does not hold a readable index: {' '.join(str(error).split())}.") from error
        known = numbers.shape == (len(ids),) and len(ids) == meta.get("photos")
        if not known or searched.d != meta.get("dimension") or (len(ids) and numbers[-1] >= searched.ntotal):
            raise InputError(
                f"{directory} has {len(ids)} ids, {numbers.shape} numbers and an index of {searched.ntotal} photos and "
                f"{searched.d} dimensions, and its {MARKER} tells of {meta.get('photos')} photos and "
                f"{meta.get('dimension')} dimensions; files of one index are wanted."
            )
        made = cls(ids, numbers, meta, searched)
        made.use(meta.get("parameters", {}))
        return made

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dimension(self) -> int:
        """D of the descriptors."""
        return self.searched.d

    @property
    def deleted(self) -> int:
        """Photos that the index still holds and no ranking shows."""
        return self.searched.ntotal - len(self.ids)

    @property
    def parameters(self) -> dict[str, int]:
        """What the search is told, by name; see `use`."""
        return read_parameters(self.searched)

    def use(self, parameters: Mapping[str, int]) -> None:
        """Sets parameters of the search, as {"nprobe": 16, "k_factor_rf": 4}; the others stay.

        Raises:
            InputError: the index has no such parameter, or a value is below 1.
        """
        check_parameters(self.searched, parameters)
        set_parameters(self.searched, parameters)

    def __str__(self) -> str:
        settings = written(self.parameters)
        return f"{self.meta['factory']} ({settings})" if settings else self.meta["factory"]

    def check_vectors(self, sha256: str, meta: Mapping[str, object], named: str) -> None:
        """Checks that the index is of some descriptors; of one that was changed since, that the model is theirs.

        Args:
            sha256: hash of their `vectors.npy`.
            meta: their `meta.json`.
            named: the flag and its value that named the index.

        Raises:
            InputError: it is of others.
        """
        data = self.meta.get("data", {})
        changed = bool(self.deleted or self.meta.get("added"))
        mine, theirs = data.get("descriptors"), sha256
        if changed:
            mine, theirs = self.meta.get("model_sha256"), meta.get("model_sha256")
        if None not in (mine, theirs) and mine != theirs:
            what = "the model" if changed else "the descriptors"
            raise InputError(
                f"{named} is of {what} {str(mine)[:12]}, and --database of {str(theirs)[:12]}; an index of these "
                "descriptors is wanted."
            )

    def search(self, queries: np.ndarray, k: int, progress: Progress | None = None) -> Ranking:
        """Finds about the k most similar photos of each query.

        Similarities are the index's own: rounded as its codes are. Of equal ones the lower row comes first. Where the
        index finds fewer than k photos, as in lists too few (`nprobe`), the lowest rows that are not there yet fill the
        ranking with similarity -inf: these count as not found.

        Args:
            queries: float32 [Q, D]; normalised here.
            k: photos wanted for each query; all where there are fewer.
            progress: makes a progress bar, as `console.progress`.

        Returns:
            `Ranking` with K = min(k, N), whose rows are those of `ids`.

        Raises:
            InputError: other dtypes or dimensions, a query that is zero or not finite, or k below 1.
        """
        check_descriptors(queries, np.empty((0, self.dimension), np.float32))
        if k < 1:
            raise InputError(f"{k} most similar photos are asked for; at least 1 is wanted.")
        k = min(k, len(self))
        order, similarity = np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.float32)
        parts = range(0, len(queries), _QUERIES_AT_A_TIME)
        for start in told(parts, progress if len(parts) > 1 else None, "search", len(parts), "part"):
            part = slice(start, start + _QUERIES_AT_A_TIME)
            asked = queries[part]
            order[part], similarity[part] = self._found(unit(asked, range(start, start + len(asked))), k)
        return Ranking(order, similarity)

    def _found(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Searches for more and more photos until k of each query are not deleted, or there are no more."""
        many = k
        while True:
            similarity, numbers = self.searched.search(queries, many)
            rows = self._rows(numbers)
            enough = (rows >= 0).sum(axis=1) >= k
            if many == self.searched.ntotal or (enough | (numbers[:, -1] < 0)).all() or not self.deleted:
                return _best(rows, similarity, k)
            many = min(self.searched.ntotal, 2 * many)

    def _rows(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the rows of numbers; -1 for those deleted and for -1, which stands for nothing found."""
        if not self.deleted:
            return numbers  # nothing was ever deleted: numbers are rows
        rows = np.searchsorted(self.numbers, numbers)
        rows[rows == len(self.numbers)] = 0
        return np.where(self.numbers[rows] == numbers, rows, -1)


def _best(rows: np.ndarray, similarity: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Orders int rows [Q, m], -1 for none, by similarity and row, and returns k of each, missing ones filled."""
    similarity = np.where(rows < 0, np.float32(-np.inf), similarity)
    keys = rank_keys(similarity, np.where(rows < 0, np.int64(2**32 - 1), rows))
    best = np.argsort(-keys, axis=1, kind="stable")[:, :k]
    rows, similarity = (np.take_along_axis(each, best, axis=1) for each in (rows, similarity))
    for query in np.flatnonzero((rows < 0).any(axis=1)):
        missing = rows[query] < 0
        others = np.setdiff1d(np.arange(k), rows[query][~missing])  # of k rows, as many are not there as are missing
        rows[query][missing] = others[: missing.sum()]
    return rows, similarity


def build(
    directory: Path,
    descriptors: Descriptors,
    options: IndexOptions,
    header: Mapping[str, object],
    progress: Progress | None = None,
) -> dict:
    """Builds an index in an empty directory.

    Memory: twice the sample that it is fitted to, 4 * D bytes a descriptor; 64 MB of descriptors; of IVF, --block_mb of
    codes; and what Faiss keeps in memory while it is built: all codes of other indexes, and those of a refining stage.

    Args:
        directory: where the files are written; `files.atomic_directory` makes it appear whole.
        descriptors: the photos.
        options: how.
        header: what `provenance.header` made, with the hash of the descriptors as "descriptors" of its data.
        progress: makes progress bars, as `console.progress`.

    Returns:
        What was written to `index.json`: the header, `factory`, `dimension`, `photos`, `deleted`, `training` (see
        `index_factory.train`), `parameters`, `model_sha256`, `added` (photos and hashes of later additions),
        `mapped_lists`, `bytes_per_photo`, `seconds`, and `files`, the large files' bytes.

    Raises:
        InputError: see `index_factory.empty_index` and `train`; descriptors that are zero or not finite; none.
    """
    vectors = descriptors.vectors
    if not len(vectors):
        raise InputError("there are no descriptors to index; one or more are wanted.")
    index = index_factory.empty_index(options.factory, vectors.shape[1], options.seed)
    start = time.perf_counter()
    training = index_factory.train(index, vectors, options)
    trained = time.perf_counter()
    meta = {
        **header,
        "factory": options.factory,
        "dimension": vectors.shape[1],
        "photos": len(vectors),
        "deleted": 0,
        "training": training,
        "parameters": {},
        "model_sha256": descriptors.meta.get("model_sha256"),
        "added": [],
    }
    meta["versions"] = {**meta.get("versions", {}), "faiss": faiss().__version__}
    meta["mapped_lists"] = index_factory.fill(index, vectors, directory / LISTS, options, progress)
    meta["bytes_per_photo"] = round(index_factory.bytes_of_photo(index), 2)
    meta["seconds"] = {"training": round(trained - start, 2), "adding": round(time.perf_counter() - trained, 2)}
    _write(directory, index, descriptors.ids, np.arange(len(vectors)), meta)
    return meta


def add(
    source: Path, directory: Path, descriptors: Descriptors, data: Mapping[str, str], progress: Progress | None = None
) -> dict:
    """Writes an index with further photos; what it was fitted to stays as it is.

    Inverted lists are merged from file to file. Other indexes are read into memory.

    Args:
        source: the index as it is.
        directory: where the files are written.
        descriptors: the further photos.
        data: hashes of what they were read from, to be noted.
        progress: makes progress bars, as `console.progress`.

    Returns:
        What was written to `index.json`.

    Raises:
        InputError: photos that the index has, other dimensions, or descriptors of another model.
    """
    old = SearchIndex.load(source)
    _check_further(old, source, descriptors)
    index = index_factory.read(source / INDEX, source / REFINE, old.meta["mapped_lists"], mapped=False)
    first = index.ntotal
    index_factory.fill(index, descriptors.vectors, directory / LISTS, IndexOptions(old.meta["factory"]), progress)
    ids = old.ids + descriptors.ids
    numbers = np.concatenate([old.numbers, np.arange(first, first + len(descriptors))])
    added = [*old.meta.get("added", []), {"photos": len(descriptors), **data}]
    meta = {**old.meta, "photos": len(ids), "deleted": old.deleted, "added": added}
    _write(directory, index, ids, numbers, meta)
    return meta


def delete(source: Path, directory: Path, ids: Sequence[str]) -> dict:
    """Writes an index without some photos: no ranking shows them any more.

    The large files are linked, not copied, so that this takes no longer for a large index than for a small one. The
    photos' codes stay in them, and cost their share of time and space, until the index is built anew.

    Args:
        source: the index as it is.
        directory: where the files are written, on the same file system.
        ids: of the photos.

    Returns:
        What was written to `index.json`.

    Raises:
        InputError: ids that the index does not have, an id twice, or none would be left.
    """
    old = SearchIndex.load(source)
    gone = set(ids)
    if len(gone) != len(ids):
        twice = next(photo for place, photo in enumerate(ids) if photo in ids[:place])
        raise InputError(f"--delete names the photo {twice!r} twice; each once is wanted.")
    if missing := sorted(gone.difference(old.ids)):
        raise InputError(
            f"--index={source} lacks {len(missing)} of the {len(ids)} photos of --delete, first {missing[0]!r}; photos "
            "that it has are wanted."
        )
    kept = [row for row, photo in enumerate(old.ids) if photo not in gone]
    if not kept:
        raise InputError(f"--delete names all {len(old)} photos of --index={source}; one or more must be left.")
    for name in _LARGE:
        if (source / name).is_file():
            _link(source / name, directory / name)
    meta = {**old.meta, "photos": len(kept), "deleted": old.searched.ntotal - len(kept)}
    _write(directory, None, [old.ids[row] for row in kept], old.numbers[kept], meta)
    return meta


def keep_parameters(directory: Path, parameters: Mapping[str, int], tuning: Mapping[str, object]) -> None:
    """Notes in `index.json` the parameters to search with from now on, and how they were found."""
    meta = files.read_json(directory / MARKER, "the description of an index")
    files.write_json(directory / MARKER, {**meta, "parameters": dict(parameters), "tuning": dict(tuning)})


def _write(directory: Path, index, ids: Sequence[str], numbers: np.ndarray, meta: dict) -> None:
    if index is not None:
        index_factory.write(index, directory / INDEX, directory / REFINE)
    files.write_text(directory / IDS, "".join(f"{photo}\n" for photo in ids))
    np.save(directory / NUMBERS, np.asarray(numbers, np.int64))
    meta["files"] = {name: (directory / name).stat().st_size for name in _LARGE if (directory / name).is_file()}
    files.write_json(directory / MARKER, meta)


def _check_sizes(directory: Path, sizes: object) -> None:
    """Checks that the large files are whole: reading beyond the end of one that is mapped would end the process."""
    if not isinstance(sizes, dict) or INDEX not in sizes:
        raise InputError(f"{directory / MARKER} has the files {sizes}; names and bytes of an index's files are wanted.")
    for name, size in sizes.items():
        found = (directory / name).stat().st_size if (directory / name).is_file() else "no"
        if found != size:
            raise InputError(f"{directory / name} has {found} bytes; the {size} that {MARKER} tells of are wanted.")


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _check_further(old: SearchIndex, source: Path, descriptors: Descriptors) -> None:
    if descriptors.vectors.shape[1] != old.dimension:
        raise InputError(
            f"--add holds descriptors of {descriptors.vectors.shape[1]} dimensions and --index={source} of "
            f"{old.dimension}; equal ones are wanted."
        )
    models = old.meta.get("model_sha256"), descriptors.meta.get("model_sha256")
    if None not in models and models[0] != models[1]:
        raise InputError(
            f"--add was described by the model {models[1][:12]} and the photos of --index={source} by "
            f"{models[0][:12]}; descriptors of the same model are wanted."
        )
    if twice := set(old.ids).intersection(descriptors.ids):
        raise InputError(
            f"--index={source} has {len(twice)} of the photos of --add already, first {min(twice)!r}; photos that it "
            "does not have are wanted."
        )
