"""Exact measures of re-ranked results in databases whose full rankings do not fit memory."""

from collections.abc import Mapping, Sequence

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.evaluation.album import Photos, cropped, decoded
from tfretrieval.evaluation.counting import Places, count_places, places_in
from tfretrieval.evaluation.evaluate import SHOWN, Evaluation, evaluate_places
from tfretrieval.evaluation.protocols import Protocol
from tfretrieval.evaluation.relevance import Relevance
from tfretrieval.search.candidates import Candidates, Context
from tfretrieval.search.exact import Progress
from tfretrieval.search.reranking import Chain

BEFORE, AFTER = "before", "after"


def evaluate_reranked(
    chain: Chain,
    queries: np.ndarray,
    database: np.ndarray,
    relevances: Mapping[str, Relevance],
    protocol: Protocol,
    junk: str = AFTER,
    progress: Progress | None = None,
    context: Context | None = None,
) -> Evaluation:
    """Re-ranks and measures all conditions of a protocol, over the whole database: no ranking is truncated.

    Published figures differ in when junk is taken out. "after": steps may use every photo, as plain query expansion,
    diffusion and SuperGlobal were published, and one chain serves all conditions. "before": each condition's junk is
    taken out before any step sees it, as DELG, CVNet and AMES do, and the chain runs once for each condition.

    Photos behind those that the chain holds are placed by counting (see `count_places`), so that memory does not grow
    with Q * N.

    Args:
        chain: the steps.
        queries: float32 [Q, D], L2-normalised.
        database: float32 [N, D], L2-normalised; may be memory-mapped.
        relevances: of these queries and this database, by condition.
        protocol: says what is measured.
        junk: "before" or "after".
        progress: makes progress bars, as `console.progress`.
        context: what steps need beside; see `Chain.rerank`.

    Raises:
        InputError: see `Chain.rerank`.
        ValueError: `junk` is something else.
    """
    if junk not in (BEFORE, AFTER):
        raise ValueError(f"junk is {junk!r}; {BEFORE!r} or {AFTER!r} is wanted.")
    main, context = protocol.main_of(tuple(relevances)), context or Context()  # one, which keeps what steps make once
    places, shown = {}, None
    if junk == AFTER:
        keep = SHOWN + max(map(len, relevances[main].junk), default=0)
        candidates = chain.candidates(queries, database, None, progress, keep, context)
        listed = [relevance.listed() for relevance in relevances.values()]
        rows = [np.unique(np.concatenate(own)) for own in zip(*listed, strict=True)]
        places, shown = dict.fromkeys(relevances, candidate_places(candidates, rows, progress)), candidates.ranking
    for name, relevance in relevances.items() if junk == BEFORE else ():
        left_out = [relevance.rows(query)[1] for query in range(len(relevance))]
        keep = SHOWN + max(map(len, left_out), default=0)
        candidates = chain.candidates(queries, database, left_out, progress, keep, context)
        places[name] = candidate_places(candidates, relevance.listed(), progress)
        shown = candidates.ranking if name == main else shown
    return evaluate_places(places, shown, relevances, protocol)


def photo_context(queries: Photos, database: Photos) -> Context:
    """Returns what steps that look at photos need: queries cut to their boxes, and database photos whole."""

    def reader(photos: Photos):
        def read(row: int) -> np.ndarray:
            encoded = photos.read(row)
            if encoded is None:
                raise InputError(f"the photo {photos.ids[row]!r} is not at hand; records with photos are wanted.")
            return np.asarray(cropped(decoded(encoded, photos.ids[row]), photos.box(row)))

        return read

    return Context(query_photo=reader(queries), database_photo=reader(database))


def candidate_places(candidates: Candidates, rows: Sequence[np.ndarray], progress: Progress | None = None) -> Places:
    """Returns where rows stand in the full ranking that a chain's candidates stand for.

    The ranking's K photos come first. A row behind them stands at K plus the number of rows that are neither in the
    ranking nor after it by dot product, the lower row first among equals. Junk that the candidates leave out is placed
    as other rows are: it has no place of its own, and measures take it out.

    Args:
        candidates: what `Chain.candidates` returned.
        rows: for each query, int64 [L] rows of the database, rising, each once.
        progress: makes a progress bar, as `console.progress`.
    """
    order, database = candidates.ranking.order, candidates.database
    ranked = places_in(candidates.ranking, rows, len(database))
    if order.shape[1] == len(database):
        return ranked
    both = [np.union1d(own, first).astype(np.int64) for own, first in zip(rows, order, strict=True)]
    none = [np.empty(0, np.int64)] * len(both)
    counted, _ = count_places(candidates.queries, database, both, 0, none, progress)
    places = []
    for query, (own, within) in enumerate(zip(rows, ranked.places, strict=True)):
        by_product = counted.places[query][np.searchsorted(both[query], own)]
        before = np.searchsorted(counted.of(query, order[query]), by_product)
        places.append(np.where(within >= 0, within, order.shape[1] + by_product - before))
    return Places(tuple(rows), tuple(places))
