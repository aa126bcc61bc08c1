"""One fit by name, with the shrinkage given or chosen."""

import dataclasses
from collections.abc import Callable

import numpy as np

from tfretrieval.errors import InputError
from tfretrieval.whitening import fits
from tfretrieval.whitening.linear import Whitening
from tfretrieval.whitening.pairs import groups_of, pairs_of
from tfretrieval.whitening.scatters import check_samples, pair_scatter, total_scatter, within_scatter
from tfretrieval.whitening.shrinkage import Choice, choose_shrinkage

METHODS = ("discriminative", "lw", "pca")
# Descriptors a dimension below which a plain fit is called one of few samples.
FEW = 5
# mAP lost on held-out instances that is told.
LOSS = 0.005
Pairs = tuple[np.ndarray, np.ndarray]


def fit(
    method: str,
    vectors: np.ndarray,
    labels: np.ndarray | None = None,
    pairs: Pairs | None = None,
    dimension: int = 0,
    shrinkage: float | None = None,
    total_share: float = fits.TOTAL_SHARE,
    power: float = 1.0,
) -> Whitening:
    """Fits a whitening by the name of its method.

    Args:
        method: "discriminative" (`fit_discriminative`), "lw" (`fit_pairs`) or "pca" (`fit_pca`).
        vectors: float32 [N, D], N >= 2.
        labels: int [N], the instances; "discriminative" needs them, "lw" without pairs makes pairs of them, and the
            choice of the shrinkage holds some of them out.
        pairs: int [n] rows of queries and int [n] rows of positives, for "lw".
        dimension: dimensions kept; 0 keeps all.
        shrinkage: >= 0; chosen by `choose_shrinkage`, for all dimensions, when not given.
        total_share: of "discriminative".
        power: of "pca".

    Returns:
        The whitening; `facts["shrinkage_because"]` says how the shrinkage came about, and `facts["held_out"]` holds
        the mAP of each candidate where instances were held out.

    Raises:
        InputError: the method is unknown or lacks its labels or pairs, or what the fit raises.
    """
    if method not in METHODS:
        raise InputError(f"--method={method} is unknown; one of {', '.join(METHODS)} is wanted.")
    if (method == "discriminative" and labels is None) or (method == "lw" and labels is None and pairs is None):
        raise InputError(f"--method={method} needs {'instances' if method == 'discriminative' else 'pairs'}.")
    check_samples(vectors)
    labels = None if labels is None else np.asarray(labels)
    if method == "lw" and pairs is None:
        pairs = pairs_of(labels)
    elif method == "lw":
        labels = groups_of(*pairs, len(vectors))

    if shrinkage is None:
        fits.check_options(vectors.shape[1], dimension, 0.0, total_share, power)
        choice = choose_shrinkage(vectors, labels, _scatter_of(method, vectors, labels, pairs, total_share), power)
    else:
        choice = Choice(shrinkage, "as given")
    if method == "pca":
        whitening = fits.fit_pca(vectors, dimension, choice.shrinkage, power)
    elif method == "lw":
        whitening = fits.fit_pairs(vectors, *pairs, dimension, choice.shrinkage)
    else:
        whitening = fits.fit_discriminative(vectors, labels, dimension, choice.shrinkage, total_share)
    facts = {**whitening.facts, "shrinkage_because": choice.reason, "held_out": choice.held_out}
    return dataclasses.replace(whitening, facts=facts)


def summary_lines(facts: dict) -> list[str]:
    """Returns what people are told of a fit: `facts` of a whitening of `fit`, as lines."""
    width, kept = facts["dimensions"]["from"], facts["dimensions"]["to"]
    of = next((f" ({facts[what]} {what})" for what in ("instances", "pairs") if what in facts), "")
    lines = [
        f"{facts['method']} whitening fitted to {facts['samples']} descriptors{of}: {width} -> {kept} dimensions",
        f"shrinkage {facts['shrinkage']:g}: {facts['shrinkage_because']}",
    ]
    if facts.get("jitter"):
        lines.append(f"jitter {facts['jitter']:g} added to the diagonal, as the scatter was not positive definite")
    if not facts["shrinkage"] and facts["samples"] < FEW * width:
        lines.append(
            f"note: {facts['samples']} descriptors are few for {width} dimensions without shrinkage, and noise may "
            "rule; --shrinkage=auto keeps it small"
        )
    held_out = facts["held_out"]
    if held_out and held_out["none"] - held_out[str(facts["shrinkage"])] > LOSS:
        lines.append("note: held-out photos are found better without this whitening than with it")
    return lines


def _scatter_of(
    method: str, vectors: np.ndarray, labels: np.ndarray | None, pairs: Pairs | None, total_share: float
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Returns what the method equalises, and the centre it takes, as functions of the rows it may see."""

    def total(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return total_scatter(vectors[rows])

    def of_pairs(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen = np.isin(pairs[0], rows)
        queries, positives = (ends[seen] for ends in pairs)
        return pair_scatter(vectors, queries, positives), vectors[queries].mean(axis=0, dtype=np.float64)

    def mixed(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scatter, mean = total(rows)
        return within_scatter(vectors[rows], labels[rows]) + total_share * scatter, mean

    return {"pca": total, "lw": of_pairs, "discriminative": mixed}[method]
