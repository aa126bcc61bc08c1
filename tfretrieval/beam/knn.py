"""kNN graphs by many workers: the same bits that `tfretrieval.search.knn.neighbours` gives."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np

from tfretrieval import files
from tfretrieval.beam.options import BeamOptions
from tfretrieval.beam.places import Places
from tfretrieval.beam.running import run_all
from tfretrieval.beam.work import Work, locked
from tfretrieval.search.knn import ROWS_AT_A_TIME, checked_k
from tfretrieval.search.knn_tiles import TILE_ROWS, merge, neighbours_in_tiles, tile_pairs
from tfretrieval.search.ranking import Ranking


class CompareTiles(beam.DoFn):
    """Finds the neighbours that two tiles have in each other.

    Args:
        work: the job; a unit has the rows of two tiles.
        vectors: the database's `vectors.npy`.
        k: neighbours.
        rows_at_a_time: see `knn.neighbours`.
    """

    def __init__(self, work: Work, vectors: Path, k: int, rows_at_a_time: int):
        self._work, self._vectors, self._k, self._rows = work, vectors, k, rows_at_a_time

    def setup(self):
        """Opens the database, a copy where it is far away."""
        self._folder = tempfile.TemporaryDirectory()
        path = self._work.places.fetch(self._vectors, Path(self._folder.name))
        self._database = np.load(path, mmap_mode="r", allow_pickle=False)

    def process(self, unit: str):
        """Compares two tiles; yields the unit."""
        left, right = (range(*tile) for tile in self._work.unit(unit))
        found = neighbours_in_tiles(self._database, left, right, self._k, self._rows)
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder) / unit
            with scratch.open("wb") as file:
                for ranking in found if left != right else found[:1]:
                    np.save(file, ranking.order)
                    np.save(file, ranking.similarity)
            self._work.commit(unit, scratch, {})
        yield unit

    def teardown(self):
        """Removes the copy."""
        del self._database
        self._folder.cleanup()


def neighbours(
    vectors: str | Path,
    k: int,
    output: str | Path,
    running: BeamOptions,
    tile_rows: int = TILE_ROWS,
    rows_at_a_time: int = ROWS_AT_A_TIME,
) -> Ranking:
    """Finds what `knn.neighbours` finds, pairs of tiles of the database by workers.

    Pairs that are done stay when the job is cut off, and the same call goes on with the others; in the end this process
    puts them together, in memory for one row of tiles at a time and the result.

    Args:
        vectors: the database's `vectors.npy`, float32 [N, D], which workers map into memory.
        k: see `knn.neighbours`.
        output: what is made of the result: the work is done beside it, and takes 16 * k * N * N / tile_rows bytes.
        running: where.
        tile_rows: rows of a tile, a multiple of `rows_at_a_time`.
        rows_at_a_time: see `knn.neighbours`.

    Raises:
        InputError: see there; or the runner does not get done.
    """
    vectors = Path(vectors)
    database = np.load(vectors, mmap_mode="r", allow_pickle=False)
    k = checked_k(database, k)
    units = {
        f"{left.start:09d}-{right.start:09d}": [[left.start, left.stop], [right.start, right.stop]]
        for left, right in tile_pairs(len(database), tile_rows)
    }
    inputs = {"vectors": files.sha256(vectors), "k": k, "rows_at_a_time": rows_at_a_time}
    with locked(output) as place:
        work = Work.open(place, inputs, units, Places(running.mounted()))
        compare = beam.ParDo(CompareTiles(work, vectors, k, rows_at_a_time))
        run_all(work.missing, compare, running, "pair of tiles")
        order, similarity = np.empty((len(database), k), np.int32), np.empty((len(database), k), np.float32)
        for first in range(0, len(database), tile_rows):
            found = merge(list(_parts(work, units, first)), k)
            order[first : first + tile_rows], similarity[first : first + tile_rows] = found.order, found.similarity
        work.remove()
    return Ranking(order, similarity)


def _parts(work: Work, units: dict[str, list], first: int) -> Iterator[Ranking]:
    """Yields the rankings of the tile that begins at row `first`, of all the pairs that it is in."""
    for unit, (left, right) in units.items():
        if first in (left[0], right[0]):
            with work.data(unit).open("rb") as file:
                found = Ranking(np.load(file), np.load(file))
                yield found if first == left[0] else Ranking(np.load(file), np.load(file))
