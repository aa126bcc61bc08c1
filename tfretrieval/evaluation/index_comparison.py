"""Several indexes of the same descriptors, side by side: bytes, recall, queries per second, and mAP.

How descriptors are compressed is compared in the same way: "SQfp16" is exact search of float16, "PCAR128,L2norm,Flat"
of the first 128 dimensions after PCA.
"""

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfretrieval import console
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.evaluation.charts import Axis, Curve
from tfretrieval.evaluation.index_evaluation import evaluate_found
from tfretrieval.evaluation.protocols import Protocol
from tfretrieval.evaluation.relevance import Relevance
from tfretrieval.evaluation.trade_chart import byte_ticks, rate_ticks, share_ticks, trade_chart
from tfretrieval.search import index as indexes
from tfretrieval.search.exact import Progress, search_top
from tfretrieval.search.index import SearchIndex
from tfretrieval.search.index_factory import IndexOptions, empty_index
from tfretrieval.search.index_tuning import (
    KnownNeighbours,
    OperatingPoint,
    explore,
    fastest_reaching,
    measure,
    noted_point,
)

COMPRESSION, USUAL = "compression", "usual"


@dataclasses.dataclass(frozen=True)
class Judged:
    """A benchmark to measure mAP on.

    Attributes:
        queries: float32 [Q, D].
        relevances: of these queries and the indexed photos, by condition.
        protocol: says what is measured.
        depth: photos of each ranking, of the exact one too.
    """

    queries: np.ndarray
    relevances: Mapping[str, Relevance]
    protocol: Protocol
    depth: int

    def exact_map(self, database: np.ndarray, progress: Progress | None = None) -> float:
        """Returns the mAP of exact search, cut to the depth."""
        ranking = search_top(self.queries, database, self.depth, progress)
        return evaluate_found(ranking, self.relevances, self.protocol).map

    def map(self, index: SearchIndex) -> float:
        """Returns the mAP of an index of the photos in their order."""
        ranking = index.search(self.queries, min(self.depth, len(index)))
        return evaluate_found(ranking, self.relevances, self.protocol).map


def factories(text: str, dimension: int, photos: int) -> tuple[str, ...]:
    """Returns the factory strings of --compare, in its order.

    Args:
        text: factories with " | " between them; or "compression", the ways to keep descriptors in fewer bytes; or
            "usual", one of each family, with lists for that number of photos.
        dimension: D of the descriptors.
        photos: their number.

    Raises:
        InputError: none, one twice, or one that Faiss does not make.
    """
    if text == COMPRESSION:
        parts = [f"PCAR{part},L2norm,Flat" for part in (dimension // 2, dimension // 4, dimension // 8) if part >= 8]
        codes = [f"PQ{dimension // width}" for width in (4, 8, 16) if dimension % width == 0]
        found = ["Flat", *parts, "SQfp16", "SQ8", "SQ4", *codes, "RaBitQ"]
    elif text == USUAL:
        lists = 2 ** max(2, round(np.log2(np.sqrt(photos))))
        width = next(width for width in (8, 4, 2, 1) if dimension % width == 0)
        coded = f"IVF{lists},PQ{dimension // width}"
        found = ["Flat", f"IVF{lists},Flat", f"IVF{lists},SQ8", coded, f"{coded},Refine(SQ8)"]
        found += [f"RR{dimension},IVF{lists},RaBitQ,Refine(SQ8)", "HNSW32"]
    else:
        found = [part.strip() for part in text.split("|")]
    if len(set(found)) != len(found):
        twice = next(part for place, part in enumerate(found) if part in found[:place])
        raise InputError(f"--compare names {twice!r} twice; each factory once is wanted.")
    for factory in found:
        empty_index(factory, dimension)
    return tuple(found)


def compare_indexes(
    names: Sequence[str],
    descriptors: Descriptors,
    known: KnownNeighbours,
    target: float,
    options: IndexOptions,
    folder: Path,
    judged: Judged | None = None,
) -> dict:
    """Builds one index after the other and measures each; none is kept.

    Parameters are chosen on half of the queries, as the fastest that reach the target, or those that find most; what is
    told of an index is measured on the other half.

    Args:
        names: factory strings.
        descriptors: the photos.
        known: queries and what they should find.
        target: recall@k to choose parameters for.
        options: how to build; its factory does not count.
        folder: where indexes are written meanwhile.
        judged: a benchmark for mAP.

    Returns:
        `k`, `recall_target`, `queries` of each half, `map_exact` and `depth` where there is a benchmark, and `indexes`:
        of each `factory`, `bytes_per_photo`, `file_bytes`, `seconds`, `training`, `parameters`, `recall`,
        `queries_per_second`, `reached`, `points` (the frontier), and `map` and `map_loss`.

    Raises:
        InputError: see `indexes.build`.
    """
    if not 0 < target <= 1:
        raise InputError(f"--recall_target={target:g}; a share above 0 and up to 1 is wanted.")
    choosing, held_out = known.halves(options.seed)
    result: dict = {"k": known.k, "recall_target": target}
    result["queries"] = {"chosen_by": len(choosing), "held_out": len(held_out)}
    exact = None
    if judged:
        exact = judged.exact_map(descriptors.vectors, console.progress)
        result |= {"map_exact": round(exact, 4), "depth": min(judged.depth, len(descriptors))}
    rows = []
    for name in names:
        own = Path(tempfile.mkdtemp(dir=folder))
        meta = indexes.build(own, descriptors, dataclasses.replace(options, factory=name), {}, console.progress)
        row = {"factory": name, "bytes_per_photo": meta["bytes_per_photo"], "file_bytes": sum(meta["files"].values())}
        row |= {"seconds": meta["seconds"], "training": meta["training"]}
        row |= _measured(SearchIndex.load(own), choosing, held_out, target, judged)
        if judged:
            row["map_loss"] = round(exact - row["map"], 4)
        rows.append(row)
        console.say(summary_line(row))
        shutil.rmtree(own)
    return {**result, "indexes": rows}


def _measured(
    index: SearchIndex, choosing: KnownNeighbours, held_out: KnownNeighbours, target: float, judged: Judged | None
) -> dict:
    """Returns the figures of an index that depend on its parameters."""
    points = explore(index, choosing, progress=console.progress)
    chosen = fastest_reaching(points, target)
    index.use((chosen or points[-1]).parameters)
    told = noted_point(OperatingPoint(index.parameters, *measure(index, held_out)))
    told |= {"reached": chosen is not None, "points": [noted_point(point) for point in points]}
    return told | ({"map": round(judged.map(index), 4)} if judged else {})


def summary_line(row: Mapping) -> str:
    """Returns one index's figures as a line for a terminal."""
    parts = [f"{row['factory']}: {row['bytes_per_photo']:g} bytes a photo", f"recall {row['recall']:.3f}"]
    parts.append(f"{row['queries_per_second']:,.0f} queries/s")
    parts += [f"mAP {row['map']:.4f} ({0.0 - row['map_loss']:+.4f})"] if "map" in row else []
    parts += [", ".join(f"{name} {value}" for name, value in row["parameters"].items())] if row["parameters"] else []
    return "; ".join(parts)


def speed_chart(result: Mapping) -> str:
    """Returns the chart of recall against queries a second, a whole SVG file; one line an index."""
    curves = []
    for row in result["indexes"]:
        points = sorted((point["queries_per_second"], point["recall"]) for point in row["points"])
        curves.append(Curve(row["factory"], *map(tuple, zip(*points, strict=True))))
    rates, shares = ([value for curve in curves for value in getattr(curve, side)] for side in ("x", "y"))
    across = Axis("queries a second, in one batch", rate_ticks(min(rates), max(rates)), logarithmic=True)
    up = Axis(f"recall@{result['k']}", share_ticks(min(shares), max(shares)))
    return trade_chart(f"Recall@{result['k']} against queries a second", curves, across, up)


def bytes_chart(result: Mapping) -> str:
    """Returns the chart of mAP, or recall where there is no benchmark, against bytes a photo, a whole SVG file."""
    figure, label = ("map", "mAP") if "map_exact" in result else ("recall", f"recall@{result['k']}")
    curves = [Curve(row["factory"], (row["bytes_per_photo"],), (row[figure],)) for row in result["indexes"]]
    sizes, shares = [curve.x[0] for curve in curves], [curve.y[0] for curve in curves]
    across = Axis("bytes a photo", byte_ticks(min(sizes), max(sizes)), logarithmic=True)
    up = Axis(label, share_ticks(min(shares), max(shares)))
    return trade_chart(f"{label} against bytes a photo", curves, across, up)
