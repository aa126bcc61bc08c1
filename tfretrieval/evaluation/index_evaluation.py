"""Measures of what an approximate index finds, over rankings cut to a depth."""

from collections.abc import Mapping, Sequence

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.evaluation.benchmark import Benchmark
from tfretrieval.evaluation.counting import NOT_RANKED, Places, places_in
from tfretrieval.evaluation.evaluate import Evaluation, evaluate_places
from tfretrieval.evaluation.protocols import ALL, Protocol, protocol_of
from tfretrieval.evaluation.relevance import Relevance
from tfretrieval.search.exact import Progress
from tfretrieval.search.index import SearchIndex
from tfretrieval.search.ranking import Ranking


def benchmark_conditions(benchmark: Benchmark) -> tuple[Protocol, dict[str, Relevance]]:
    """Returns a benchmark's protocol, and what is right under each of its conditions."""
    protocol = protocol_of(benchmark.protocol, f"--benchmark={benchmark.directory}")
    if benchmark.judgements is None:
        return protocol, {ALL: benchmark.relevance()}
    return protocol, protocol.relevances(benchmark.judgements, len(benchmark.database))


def index_ranking(
    index: SearchIndex, queries: np.ndarray, photos: Sequence[str], depth: int, progress: Progress | None = None
) -> Ranking:
    """Searches an index for the photos of a benchmark's database.

    Args:
        index: of these photos, in any order.
        queries: float32 [Q, D].
        photos: ids of the database, in its order.
        depth: photos of each ranking; all where there are fewer.
        progress: makes a progress bar, as `console.progress`.

    Returns:
        `Ranking` whose rows are those of `photos`; see `SearchIndex.search` for what stands where nothing was found.

    Raises:
        InputError: the index does not have exactly these photos; see `SearchIndex.search`.
    """
    row_of = {photo: row for row, photo in enumerate(photos)}
    missing = len(row_of.keys() - set(index.ids))
    further = next((photo for photo in index.ids if photo not in row_of), None)
    if missing or further is not None:
        first = next((photo for photo in photos if photo not in set(index.ids)), further) if missing else further
        raise InputError(
            f"the index has {len(index)} photos, and lacks {missing} of the database's {len(photos)} ({first!r} is in "
            "one of them alone); an index of the benchmark's own database is wanted."
        )
    found = index.search(queries, depth, progress)
    rows = np.fromiter((row_of[photo] for photo in index.ids), np.int32, len(index))
    return Ranking(rows[found.order], found.similarity)


def evaluate_found(ranking: Ranking, relevances: Mapping[str, Relevance], protocol: Protocol) -> Evaluation:
    """Measures a ranking in which photos of similarity -inf count as not found, as those behind its depth.

    Args:
        ranking: [Q, K]; see `SearchIndex.search`.
        relevances: of these queries, for each condition.
        protocol: says what is measured.

    Raises:
        ValueError: there is no query.
    """
    places = {}
    lost = ranking.similarity == -np.inf
    for name, relevance in relevances.items():
        found = places_in(ranking, relevance.listed(), relevance.database)
        places[name] = Places(
            found.rows,
            tuple(
                np.where((own >= 0) & missed[np.maximum(own, 0)], NOT_RANKED, own)
                for own, missed in zip(found.places, lost, strict=True)
            ),
        )
    return evaluate_places(places, ranking, relevances, protocol)
