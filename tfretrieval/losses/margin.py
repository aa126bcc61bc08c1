"""Margin loss with a learned boundary between matches and non-matches."""

import keras
from keras import ops

from tfretrieval.losses import distances, pairs
from tfretrieval.losses.owning import OwningLoss

MARGIN, BOUNDARY = 0.2, 1.2
REGULARISATION = 0.01  # this toolkit's
SAMPLINGS = ("distance", "uniform")
_NEAREST, _FARTHEST = 0.5, 1.4


def sampling_weights(found, other, dimension: int, sampling: str):
    """Returns the probability with which each photo's non-matches are drawn.

    "distance" draws in inverse proportion to how often a distance occurs between random points of the unit sphere,
    q(d) ~ d^(D-2) (1 - d^2/4)^((D-3)/2), d no smaller than 0.5; non-matches beyond 1.4 are left out where a photo has
    nearer ones. "uniform" draws all alike.

    Args:
        found: float32 [B, W], the distances.
        other: float32 [B, W], 1 for non-matching pairs, else 0.
        dimension: D of the descriptors.
        sampling: "distance" or "uniform".

    Returns:
        float32 [B, W], constant in the gradient; rows sum to 1, or are 0 without a non-match.
    """
    logits = ops.zeros_like(found)
    if sampling == "distance":
        fixed = ops.clip(ops.stop_gradient(found), _NEAREST, 1.99)
        logits = -(dimension - 2.0) * ops.log(fixed) - (dimension - 3.0) / 2 * ops.log(1.0 - ops.square(fixed) / 4)
        near = other * ops.cast(fixed < _FARTHEST, "float32")
        other = ops.where(ops.max(near, axis=1, keepdims=True) > 0, near, other)
    return ops.softmax(ops.where(other > 0, logits, -1e30), axis=1) * other


def margin_loss(
    descriptors,
    labels,
    boundary,
    margin: float = MARGIN,
    sampling: str = "distance",
    memory: pairs.Memory | None = None,
):
    """Margin loss: matches nearer than the boundary by a margin, non-matches farther than it by the same margin.

    L = mean_{(a,p)} ( max(0, d(a,p) - b_a + margin) + E_n max(0, b_a - d(a,n) + margin) ),
    E_n the expectation over a non-match n drawn for a, by default with distance-weighted probability.
    Source: Wu, Manmatha, Smola, Krähenbühl, "Sampling Matters in Deep Embedding Learning", ICCV 2017. The paper draws
    one n and divides by the number of terms above 0; the expectation, without chance, and the mean over pairs are this
    toolkit's.

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        boundary: float32 scalar, or [B] for one of each photo.
        margin: half the width of the gap around the boundary, > 0.
        sampling: "distance" or "uniform"; see `sampling_weights`.
        memory: earlier photos to compare with too.

    Returns:
        float32 scalar, the mean over matching pairs that have a non-match.
    """
    found = distances.all_pairs(descriptors, memory=memory)
    matching, other = pairs.pair_masks(labels, memory)
    boundary = ops.reshape(boundary, (-1, 1))
    pull = ops.maximum(found - boundary + margin, 0.0)
    weights = sampling_weights(found, other, descriptors.shape[-1], sampling)
    push = ops.sum(weights * ops.maximum(boundary - found + margin, 0.0), axis=1, keepdims=True)
    return pairs.mean_over(pull + push, matching * ops.max(other, axis=1, keepdims=True))


@keras.saving.register_keras_serializable(package="tfretrieval")
class Margin(OwningLoss):
    """Keras loss of `margin_loss`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    The boundary b is the loss's own variable, as the class weights of `NormSoftmax` are; `build` makes it. Matches
    beyond it pull it up and non-matches within it push it down; regularisation * mean (b - its start)^2 over the batch
    is added, so that it goes back where no pair holds it. This term is this toolkit's: the paper's, nu * b, moves the
    boundary without end where no pair opposes it.

    Args:
        margin: see `margin_loss`.
        boundary: where the boundary starts, in (0, 2).
        regularisation: weight of the boundary's squared way from its start, >= 0.
        per_instance: whether each instance has a boundary of its own.
        sampling: see `margin_loss`.
    """

    def __init__(
        self,
        margin: float = MARGIN,
        boundary: float = BOUNDARY,
        regularisation: float = REGULARISATION,
        per_instance: bool = False,
        sampling: str = "distance",
        name: str = "margin",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling={sampling!r} is unknown; one of {', '.join(SAMPLINGS)} is wanted.")
        self.margin, self.boundary, self.regularisation = margin, boundary, regularisation
        self.per_instance, self.sampling = per_instance, sampling

    def build(self, instances: int, dimension: int, seed: int) -> None:
        """Makes the boundary: one, or one for each of the instances. The dimension and the seed have no part in it."""
        del dimension, seed
        start = ops.full((instances if self.per_instance else 1,), self.boundary, dtype="float32")
        self.trainable_variables = [keras.Variable(start, name="boundary")]

    def call(self, y_true, y_pred, memory: pairs.Memory | None = None):
        """Returns the batch's loss, float32 scalar."""
        boundary = ops.convert_to_tensor(self.trainable_variables[0])
        if self.per_instance:
            boundary = ops.take(boundary, ops.cast(ops.reshape(y_true, (-1,)), "int32"))
        loss = margin_loss(y_pred, y_true, boundary, self.margin, self.sampling, memory)
        return loss + self.regularisation * ops.mean(ops.square(boundary - self.boundary))

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        own = {"margin": self.margin, "boundary": self.boundary, "regularisation": self.regularisation}
        return {**super().get_config(), **own, "per_instance": self.per_instance, "sampling": self.sampling}
