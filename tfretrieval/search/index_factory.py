"""Faiss indexes by their factory strings: made empty, fitted to a drawn sample, and filled from mapped descriptors.

A factory string names the stages of an index, as "OPQ32,IVF1024,PQ32,Refine(SQ8)"; Faiss documents its words. All
indexes here compare by the inner product of vectors of length 1, which is the cosine.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.search.exact import Progress, told

_BYTES_AT_A_TIME = 2**26  # of descriptors read, normalised and coded together
_FOR_EACH_LIST = 64  # descriptors to place a list's centre by; Faiss recommends 39 to 256
_FOR_CODES = 65_536  # descriptors to fit product codes to, 256 for each of 256 centres
_FEW = 39  # descriptors for each centre below which Faiss warns


@dataclasses.dataclass(frozen=True)
class IndexOptions:
    """How an index is built; `pipelines.index` has a flag for each.

    Attributes:
        factory: Faiss's string of the index, as "Flat", "IVF1024,PQ32", "OPQ64,IVF4096,PQ64,Refine(SQ8)", "HNSW32".
        train_photos: Descriptors, drawn by --seed, that centres, codes and rotations are fitted to; 0 takes 64 for each
            list and at least 65,536, or all where there are fewer.
        block_mb: Megabytes of codes of an IVF index that are held in memory before they are written to a file.
        seed: Seed of the sample, of k-means, and of the drawn queries.
    """

    factory: str = "IVF1024,PQ64,Refine(SQ8)"
    train_photos: int = 0
    block_mb: int = 512
    seed: int = 0

    def __post_init__(self):
        if self.train_photos < 0:
            raise InputError(f"--train_photos={self.train_photos}; a number of photos, or 0, is wanted.")
        if self.block_mb < 1:
            raise InputError(f"--block_mb={self.block_mb}; at least 1 is wanted.")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"--seed={self.seed}; a whole number from 0 to 2147483647 is wanted.")


def faiss() -> ModuleType:
    """Returns the module Faiss, imported when an index is first used.

    Raises:
        InputError: it is not installed.
    """
    try:
        import faiss as module
    except ImportError:
        raise InputError(
            "Faiss, which makes and searches indexes, is not installed; pip install faiss-cpu==1.15.1 is wanted."
        ) from None
    return module


def empty_index(factory: str, dimension: int, seed: int = 0):
    """Makes an index that is not fitted yet.

    Two of Faiss's defaults are changed. Product codes are not ordered for polysemous search (Douze, Jegou, Perronnin,
    ECCV 2016), which nothing here uses and which takes most of the fitting. k-means is seeded by `seed`.

    Args:
        factory: Faiss's factory string.
        dimension: D of the descriptors.
        seed: of k-means.

    Returns:
        A `faiss.Index` by inner product.

    Raises:
        InputError: Faiss knows no such index, or not for this dimension or for inner products.
    """
    module, named = faiss(), f"--factory={factory}"
    if "IDMap" in factory:
        raise InputError(f"{named} keeps ids, which ids.txt does here; a factory without IDMap is wanted.")
    try:
        index = module.index_factory(dimension, factory, module.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise InputError(
            f"{named} is not an index that Faiss makes for {dimension} dimensions and inner products "
            f"({_reason(error)}); a string such as Flat, IVF1024,PQ32 or HNSW32 is wanted."
        ) from None
    for part in parts(index):
        if getattr(part, "nlist", 1) < 1:
            raise InputError(f"{named} has an IVF of no list; one list or more are wanted.")
        if hasattr(part, "do_polysemous_training"):
            part.do_polysemous_training = False
        for clustering in _clusterings(part):
            clustering.seed, clustering.min_points_per_centroid = seed, 1
    return index


def fewest_descriptors(index) -> int:
    """Returns how many descriptors an index must at least be fitted to: one for each centre of its k-means."""
    lists = (getattr(part, "nlist", 1) for part in parts(index))
    codes = (part.pq.ksub for part in parts(index) if hasattr(part, "pq"))
    return max(1, *lists, *codes)


def train(index, vectors: np.ndarray, options: IndexOptions) -> dict:
    """Fits an index to a drawn sample of descriptors.

    Args:
        index: of `empty_index`.
        vectors: float32 [N, D], in memory or memory-mapped.
        options: say the sample's size and seed.

    Returns:
        `photos` of the sample, `seed`, `fewest` (one for each centre), and `few`, whether they are fewer than 39 for
        each centre, below which centres are poorly placed.

    Raises:
        InputError: fewer descriptors than centres, or another refusal of Faiss.
    """
    fewest = fewest_descriptors(index)
    lists = max(getattr(part, "nlist", 1) for part in parts(index))
    wanted = options.train_photos or max(_FOR_EACH_LIST * lists, _FOR_CODES)
    count = min(len(vectors), wanted)
    if count < fewest:
        found = f"--train_photos={count} are" if count < len(vectors) else f"there are {count}"
        raise InputError(
            f"--factory={options.factory} is fitted to at least {fewest} descriptors, one for each centre, and {found} "
            "to fit it to; more descriptors or fewer centres are wanted."
        )
    if not index.is_trained:
        rows = np.sort(np.random.default_rng(options.seed).choice(len(vectors), count, replace=False, shuffle=False))
        try:
            sample = unit(np.asarray(vectors[rows]), rows)
            with _quiet():
                index.train(sample)
        except RuntimeError as error:
            raise InputError(f"--factory={options.factory} cannot be fitted: {_reason(error)}.") from None
    return {"photos": count, "seed": options.seed, "fewest": fewest, "few": fewest > 1 and count < _FEW * fewest}


def fill(index, vectors: np.ndarray, lists: Path, options: IndexOptions, progress: Progress | None = None) -> bool:
    """Adds descriptors to a fitted index, some rows after the other.

    Inverted lists grow in memory to --block_mb, are written beside `lists`, and become one file at the end, which Faiss
    maps: neither building nor searching holds them in memory. Lists that the index has already come first. Faiss keeps
    the lists of its FastScan indexes, and indexes other than IVF, in memory while they are built.

    Args:
        index: fitted; with photos or without.
        vectors: float32 [N, D], in memory or memory-mapped.
        lists: the file of lists to make; not the one that the index has mapped.
        options: say the memory.
        progress: makes a progress bar, as `console.progress`.

    Returns:
        Whether there are lists, and `lists` was written.
    """
    ivf = _with_mappable_lists(index)
    spilled = None if ivf is None else _Lists(ivf, lists, options.block_mb * 2**20)
    many = max(1, _BYTES_AT_A_TIME // (4 * vectors.shape[1]))
    starts = range(0, len(vectors), many)
    for first in told(starts, progress, "adding", len(starts), "block"):
        part = np.asarray(vectors[first : first + many])
        index.add(unit(part, range(first, first + len(part))))
        if spilled:
            spilled.spill()
    if spilled:
        spilled.merge()
    return spilled is not None


def unit(vectors: np.ndarray, rows) -> np.ndarray:
    """Returns float32 [n, D] of length 1.

    Args:
        vectors: float32 [n, D].
        rows: their n numbers, for the error's sentence.

    Raises:
        InputError: a vector is zero or not finite.
    """
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(wrong):
        raise InputError(
            f"the descriptor in row {rows[int(wrong[0])]} has the length {lengths[wrong[0]]:g}, as {len(wrong)} of "
            f"{len(vectors)} looked at have no direction; finite descriptors other than zero are wanted."
        )
    return np.ascontiguousarray(vectors / lengths[:, None], np.float32)


def bytes_of_photo(index) -> float:
    """Returns how many bytes each further photo takes: its code, its number in a list, its links in a graph."""
    module = faiss()
    total = 0.0
    for part in parts(index, inner=("index", "base_index", "refine_index")):
        if hasattr(part, "hnsw"):
            graph = part.hnsw
            links = 4 * graph.neighbors.size() + 4 * graph.levels.size() + 8 * graph.offsets.size()
            total += links / max(1, part.ntotal) + module.downcast_index(part.storage).sa_code_size()
        elif hasattr(part, "nlist"):
            total += part.code_size + 8
        elif hasattr(part, "code_size"):
            total += part.code_size
    return total


def write(index, path: Path, refine: Path) -> None:
    """Writes an index; a refining stage, where it has one, goes to a file of its own, so that both can be mapped.

    Faiss maps codes within the file of an index, or lists in a file beside it, but not both.
    """
    module = faiss()
    index = module.downcast_index(index)
    if isinstance(index, module.IndexRefine):
        module.write_index(index.refine_index, str(refine))
        index = index.base_index
    module.write_index(index, str(path))


def read(path: Path, refine: Path, lists_beside: bool, mapped: bool = True):
    """Opens what `write` wrote.

    Args:
        path: the index.
        refine: its refining stage; there is none where there is no such file.
        lists_beside: whether inverted lists lie in a file beside `path`.
        mapped: whether codes are mapped, for searching, or read into memory, for adding.

    Returns:
        A `faiss.Index`.

    Raises:
        RuntimeError: Faiss cannot read a file.
    """
    module = faiss()
    codes = module.IO_FLAG_MMAP_IFC | module.IO_FLAG_READ_ONLY if mapped else 0
    beside = module.IO_FLAG_ONDISK_SAME_DIR | (module.IO_FLAG_READ_ONLY if mapped else 0)
    with _quiet():
        index = module.read_index(str(path), beside if lists_beside else codes)
        if not refine.is_file():
            return index
        base, finer = index, module.read_index(str(refine), codes)
    index = module.IndexRefine(base, finer)
    index.own_fields = index.own_refine_index = True
    for owned in (base, finer):
        owned.this.disown()
    return index


class _Lists:
    """The inverted lists of an index while it is filled: those in memory, and files of those before."""

    def __init__(self, ivf, path: Path, most_bytes: int):
        module = faiss()
        self._ivf, self._path, self._most, self._held = ivf, path, most_bytes, ivf.ntotal
        self._blocks = []
        if ivf.ntotal:
            ivf.own_invlists = False  # the index lets go of the lists that it has, which are merged at the end
            self._blocks.append((module.downcast_InvertedLists(ivf.invlists), None))
            fresh = module.ArrayInvertedLists(ivf.nlist, ivf.code_size)
            ivf.replace_invlists(fresh, True)
            fresh.this.disown()

    def spill(self) -> None:
        """Writes the lists in memory to a file, if they are large."""
        if (self._ivf.ntotal - self._held) * (self._ivf.code_size + 8) >= self._most:
            path = self._path.with_name(f"{self._path.name}.{len(self._blocks)}")
            self._blocks.append((self._written([self._ivf.invlists], path), path))
            self._ivf.invlists.reset()
            self._held = self._ivf.ntotal

    def merge(self) -> None:
        """Writes all lists to one file, which the index has mapped from then on."""
        lists = self._written([*(block for block, _ in self._blocks), self._ivf.invlists], self._path)
        self._ivf.replace_invlists(lists, True)
        lists.this.disown()
        for _, path in self._blocks:
            if path:
                path.unlink()
        self._blocks.clear()

    def _written(self, parts: list, path: Path):
        module = faiss()
        lists = module.OnDiskInvertedLists(self._ivf.nlist, self._ivf.code_size, str(path))
        pointers = module.InvertedListsPtrVector()
        for part in parts:
            pointers.push_back(part)
        with _quiet():
            lists.merge_from_multiple(pointers.data(), pointers.size())
        return lists


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Sends what Faiss prints of paths and warnings nowhere, below Python; what there is to say, results say."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept, null = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    try:
        for place in (1, 2):
            os.dup2(null, place)
        yield
    finally:
        for place, file in zip((1, 2), kept, strict=True):
            os.dup2(file, place)
        for file in (*kept, null):
            os.close(file)


def _with_mappable_lists(index):
    """Returns the IVF stage of an index where its lists can lie in a file, or None."""
    module = faiss()
    ivf = module.try_extract_index_ivf(index)
    if ivf is None:
        return None
    lists = module.downcast_InvertedLists(ivf.invlists)
    return ivf if isinstance(lists, module.ArrayInvertedLists | module.OnDiskInvertedLists) else None


def parts(index, inner=("index", "base_index", "refine_index", "quantizer", "storage")) -> Iterator:
    """Yields an index and the indexes inside it, each as its own class."""
    index = faiss().downcast_index(index)
    yield index
    for name in inner:
        held = getattr(index, name, None)
        if held is not None:
            yield from parts(held, inner)


def _clusterings(part) -> Iterator:
    for holder in (part, getattr(part, "pq", None)):
        if hasattr(holder, "cp"):
            yield holder.cp


def _reason(error: RuntimeError) -> str:
    """Returns what Faiss says in an error, without its place in Faiss's source."""
    text = " ".join(str(error).split())
    return text.rpartition("Error: ")[2].rstrip(".") or text
