"""How much to shrink: chosen by retrieval among instances that the whitening was not fitted to."""

import dataclasses
from collections.abc import Callable

import numpy as np

from tfretrieval.evaluation.evaluate import evaluate
from tfretrieval.evaluation.relevance import Relevance
from tfretrieval.whitening.fits import SHRINKAGE, pca_scales

CANDIDATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
FOLDS = 5
# mAP that is not worth leaving the plain choice for: all that is left to gain where training made the photos easy.
_WORTH = 0.002
# Photos searched among in a fold; more make the choice slower, not better.
_HELD_OUT = 1000


@dataclasses.dataclass(frozen=True)
class Choice:
    """A shrinkage and why.

    Attributes:
        shrinkage: one of `CANDIDATES`.
        reason: one sentence's worth, without its end.
        held_out: mAP in [0, 1] on held-out instances by candidate, and under "none" without whitening; empty where
            nothing was held out.
    """

    shrinkage: float
    reason: str
    held_out: dict[str, float] = dataclasses.field(default_factory=dict)


def choose_shrinkage(
    vectors: np.ndarray,
    labels: np.ndarray | None,
    scatter: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    power: float = 1.0,
    seed: int = 0,
) -> Choice:
    """Chooses the shrinkage by cross-validation over instances.

    Instances are divided into five folds. The scatter of the other four is shrunk by each candidate, and each photo of
    the fold searches among the others of the fold. 0.3 is kept unless another candidate's mAP, as mean over instances,
    is better by more than one standard error of the difference and by more than 0.2 points; then the candidate nearest
    to 0.3 (by ratio) that is as near to the best is taken: Breiman et al.'s one-standard-error rule (1984) with 0.3 as
    the plain choice. The use for whitening is this toolkit's. A network that was trained on the same instances finds
    almost all of them whatever the shrinkage, and then 0.3 stays.

    Args:
        vectors: float32 [N, D].
        labels: int [N], the instances; None where they are not known.
        scatter: rows, int [n] -> the scatter that is equalised, float64 [D, D], and the centre, float64 [D], of these
            descriptors alone.
        power: as in `fit_pca`.
        seed: of the division into folds.

    Returns:
        The choice; 0.3 where there are no labels, or fewer than two instances of two photos for each fold.
    """
    if labels is None:
        return Choice(SHRINKAGE, "the default, as instances to hold out are not known")
    labels = np.asarray(labels)
    instances, counts = np.unique(labels, return_counts=True)
    several, single = instances[counts > 1], instances[counts == 1]
    if len(several) < 2 * FOLDS:
        return Choice(SHRINKAGE, f"the default, as fewer than {2 * FOLDS} instances have two photos")
    rng = np.random.default_rng(seed)
    parts = [np.array_split(rng.permutation(kind), FOLDS) for kind in (several, single)]
    scores = []
    for fold in (np.concatenate(both) for both in zip(*parts, strict=True)):
        held = np.isin(labels, fold)
        matrix, centre = scatter(np.flatnonzero(~held))
        scores.append(_instance_scores(*_some_of(vectors[held], labels[held]), matrix, centre, power))
    return _choice(np.concatenate(scores))


def _some_of(vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the photos of as many instances as `_HELD_OUT` photos allow, those with several photos first."""
    _, group, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((group, counts[group] == 1))[:_HELD_OUT]
    return vectors[order], labels[order]


def _instance_scores(
    vectors: np.ndarray, labels: np.ndarray, scatter: np.ndarray, centre: np.ndarray, power: float
) -> np.ndarray:
    """Returns mAP by instance and candidate, and last without whitening: float64 [instances, candidates + 1]."""
    variances, directions = np.linalg.eigh(scatter)
    rotated = (vectors - centre) @ directions
    relevance = Relevance.by_instance(labels, labels, np.arange(len(labels)))
    columns = []
    # Lw's own last rotation moves no cosine, so one eigenbasis serves all candidates and methods.
    for found in (*(rotated * pca_scales(variances, s, power) for s in CANDIDATES), vectors):
        unit = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        columns.append(evaluate(unit.astype(np.float32), unit.astype(np.float32), relevance).ap)
    ap = np.stack(columns, axis=1)
    asked = ~np.isnan(ap[:, 0])
    _, group, counts = np.unique(labels[asked], return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), ap.shape[1]))
    np.add.at(sums, group, ap[asked])
    return sums / counts[:, None]


def _choice(scores: np.ndarray) -> Choice:
    """Applies the one-standard-error rule to float64 [instances, candidates + 1]."""
    means = scores.mean(axis=0)
    best = int(np.argmax(means[:-1]))
    gaps = scores[:, [best]] - scores[:, :-1]
    near = gaps.mean(axis=0) <= np.maximum(gaps.std(axis=0, ddof=1) / len(scores) ** 0.5, _WORTH)
    distance = np.abs(np.log(np.array(CANDIDATES) / SHRINKAGE))
    chosen = int(np.argmin(np.where(near, distance, np.inf)))
    held_out = {str(value): float(mean) for value, mean in zip((*CANDIDATES, "none"), means, strict=True)}
    best_of = f"the best, {means[best]:.3f}, at {CANDIDATES[best]:g}"
    why = best_of if chosen == best else f"near {best_of}"
    reason = f"mAP {means[chosen]:.3f} on held-out instances, {why}; {means[-1]:.3f} without whitening"
    return Choice(CANDIDATES[chosen], reason, held_out)
