"""The protocol guard: says in every result how its numbers came about, and whether the literature would accept them.

Published figures of one model differ by up to eight points with what papers often leave out: whether queries were cut
to their boxes, which average precision was meant, when junk was taken out. The guard reads what saved descriptors tell
of themselves in `meta.json`:

| field | meaning |
|---|---|
| `image_size` | longer side of the photos in pixels |
| `query_crop` | how queries were cut to their boxes and scaled; "none" where they were described whole |
| `scales` | factors on the photo's sides that the descriptor combines |
| `trained_on` | names of what the model was trained on |
| `model_sha256` | hash of the model |
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence

from tfretrieval.data.judgements import GRADES, QueryJudgement
from tfretrieval.evaluation.benchmark import Benchmark
from tfretrieval.evaluation.protocols import Protocol

NOT_CROPPED = "none"
# Protocols of this toolkit's own, with which no published numbers compare.
_OWN = ("instances", "content")
_LANDMARKS = re.compile(r"google.?landmark|gld(v?[12])?([^a-z]|$)|(gl|lm)18", re.IGNORECASE)
_OVERLAP = (
    "The model was trained on Google Landmarks ({names}), which shows landmarks of this benchmark: those of 36 of the "
    "70 queries of ROxford5k and of 38 of RParis6k in the clean second version. Compare it with models of the same "
    "training set, or train on the revisited clean list (Song et al., arXiv 2404.01524), which leaves them out."
)


@dataclasses.dataclass(frozen=True)
class KnownTruth:
    """A ground truth as it was published.

    Attributes:
        title: the benchmark's name.
        database: photos of its database, without distractors.
        sha256: hash of the published pickle.
        rows_sha256: `rows_sha256` of its judgements, which a copy in another format has too.
    """

    title: str
    database: int
    sha256: str
    rows_sha256: str


REVISITED = (
    KnownTruth(
        "ROxford5k",
        4993,
        "ba7967754bd2d7d2210a5799f9c45ad5835e269a80ef9d3eba44caa35816c471",
        "7465e8a0b04c9cd9f37f383d2f99b06732a9eb791375f69cb4ed9e45b6fcec25",
    ),
    KnownTruth(
        "RParis6k",
        6322,
        "d2e729a5293dda7dda8a15c8383424a42e4964a2c4cfea2f32fa85d11d2df499",
        "23baa2f349bf5ca3d1c1c2442b7b187df34d9ede6c07315bb7498ba9373af6da",
    ),
)


@dataclasses.dataclass(frozen=True)
class Ranked:
    """How rankings were made, as far as descriptors do not tell it.

    Attributes:
        ap: the average precision that was measured; None for the protocol's own.
        rerank: the re-ranking chain; empty for exact search alone.
        junk: of re-ranked results, whether junk was taken out "before" or "after" photos were ranked anew.
        depth: photos in each ranking; None for the whole database.
    """

    ap: str | None = None
    rerank: str = ""
    junk: str = ""
    depth: int | None = None


EXACT_SEARCH = Ranked()


def guarded(benchmark: Benchmark, protocol: Protocol, queries: Mapping, database: Mapping, ranked: Ranked) -> dict:
    """Returns what a result says of its protocol.

    Args:
        benchmark: what was measured on.
        protocol: how the literature measures it.
        queries: `meta.json` of the queries' descriptors.
        database: `meta.json` of the database's.
        ranked: how rankings were made.

    Returns:
        The facts by name; `valid`, false where published numbers do not compare, and `reasons`, a sentence for each
        cause; `overlap`, a sentence where the model's training set shows what the benchmark asks for, else None.
    """
    sides = {"queries": queries, "database": database}
    reasons = [] if protocol.name in _OWN else list(_reasons(benchmark, protocol, queries, database, ranked))
    return {
        "name": protocol.name,
        "ap": ranked.ap or protocol.ap_name,
        "precision_at_k": f"{protocol.precision} (k shrinks to the place of the last relevant photo)"
        if protocol.precision == "revisited"
        else protocol.precision,
        "ground_truth": _truth_name(benchmark, protocol),
        "ground_truth_sha256": benchmark.ground_truth_sha256 or None,
        "image_size": {side: meta.get("image_size") for side, meta in sides.items()},
        "scales": {side: meta.get("scales") for side, meta in sides.items()},
        "query_crop": queries.get("query_crop"),
        "model_sha256": {side: meta.get("model_sha256") for side, meta in sides.items()},
        "trained_on": {side: _names(meta) or None for side, meta in sides.items()},
        "rerank": ranked.rerank or None,
        "junk_and_reranking": f"junk is taken out {ranked.junk} re-ranking" if ranked.rerank else None,
        "overlap": _overlap(protocol, sides),
        "valid": not reasons,
        "reasons": reasons,
    }


def reason_notes(protocol: Mapping) -> list[str]:
    """Returns why a result does not compare with published ones, as notes, from what `guarded` returned."""
    return [f"Not comparable with published numbers: {reason}" for reason in protocol["reasons"]]


def rows_sha256(judgements: Sequence[QueryJudgement]) -> str:
    """Returns the SHA-256 of the judged rows of all queries, which does not depend on the file they were read from."""
    rows = [[list(map(int, getattr(judgement, grade))) for grade in GRADES] for judgement in judgements]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def _reasons(
    benchmark: Benchmark, protocol: Protocol, queries: Mapping, database: Mapping, ranked: Ranked
) -> Iterator[str]:
    """Yields a sentence for everything that published numbers do not allow."""
    yield from _of_crop(protocol, queries.get("query_crop"))
    for field, what in (("image_size", "image sizes"), ("scales", "scales")):
        one, other = queries.get(field), database.get(field)
        if None not in (one, other) and one != other:
            yield (
                f"queries and database were described at different {what} ({one} and {other}); published numbers have "
                "equal ones."
            )
    if ranked.ap and ranked.ap != protocol.ap_name:
        yield f"average precision is {ranked.ap} here; {protocol.title} has the {protocol.ap_name} one."
    if ranked.depth is not None and ranked.depth < len(benchmark.database):
        yield (
            f"rankings hold {ranked.depth:,} of {len(benchmark.database):,} photos; {protocol.title} measures full "
            "rankings."
        )
    if protocol.name == "revisited":
        yield from _of_truth(benchmark)


def _of_crop(protocol: Protocol, crop: object) -> Iterator[str]:
    if protocol.cropped_queries and crop is None:
        yield (
            f"the descriptors of the queries do not say whether queries were cut to their boxes, as {protocol.title} "
            "asks."
        )
    elif protocol.cropped_queries and crop == NOT_CROPPED:
        yield f"queries were described whole; {protocol.title} cuts them to their boxes."
    elif not protocol.cropped_queries and crop not in (None, NOT_CROPPED):
        yield f"queries were cut to boxes; {protocol.title} takes them whole."


def _known_truth(benchmark: Benchmark) -> KnownTruth | None:
    rows = rows_sha256(benchmark.judgements or ())
    return next((known for known in REVISITED if rows == known.rows_sha256), None)


def _truth_name(benchmark: Benchmark, protocol: Protocol) -> str | None:
    """Returns which published ground truth it is, where one of its protocol is known."""
    if protocol.name != "revisited":
        return None
    known = _known_truth(benchmark)
    if known is None:
        return "not a published one"
    same = (
        "as published" if benchmark.ground_truth_sha256 == known.sha256 else "with the published rows, in another file"
    )
    return f"{known.title}, {same}"


def _of_truth(benchmark: Benchmark) -> Iterator[str]:
    known = _known_truth(benchmark)
    if known is None:
        yield (
            f"the ground truth (SHA-256 {benchmark.ground_truth_sha256[:12]}) is neither that of ROxford5k nor that of "
            "RParis6k, or was changed."
        )
    elif len(benchmark.database) < known.database:
        yield f"the database has {len(benchmark.database):,} photos; {known.title} has {known.database:,}."


def _names(meta: Mapping) -> list[str]:
    told = meta.get("trained_on")
    return [told] if isinstance(told, str) else list(map(str, told or ()))


def _overlap(protocol: Protocol, sides: Mapping[str, Mapping]) -> str | None:
    if protocol.name not in ("revisited", "oxford"):
        return None
    names = dict.fromkeys(name for meta in sides.values() for name in _names(meta) if _LANDMARKS.search(name))
    return _OVERLAP.format(names=", ".join(names)) if names else None
