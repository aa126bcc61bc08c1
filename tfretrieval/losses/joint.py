"""The joint loss: several losses whose balance is learned."""

import keras
from keras import ops

from tfretrieval.losses.weighted_sum import WeightedSum

FORMS = ("fixed", "single", "uncertainty")
FLOOR = 0.01
LAMBDA_REASON = (
    "the joint form lambda, lambda * L1 + (1 - lambda) * L2 with a learned lambda, is refused because its gradient "
    "L1 - L2 drives lambda to 0 or 1, whichever loss is smaller; single or uncertainty is wanted."
)


def joint(values: list, exponents: list, floor: float = FLOOR):
    """Sum of losses of which the first ones are weighted by learned exponents.

    L = sum_k [ exp(-s_k) (L_k + floor) + s_k ] over the losses with an exponent + sum L_k over the others.

    At its minimum exp(-s_k) = 1 / (L_k + floor): each weighted loss counts relative to its own size. The term s_k is
    what keeps the weight from falling to 0, and the floor what keeps it below 1 / floor where a loss reaches 0.

    Gu, Li, Jiang, "Towards Optimal CNN Descriptors for Large-Scale Image Retrieval", ACM MM 2019, train with a joint
    loss with a learnable parameter, whose formula its abstract does not give; this is this toolkit's instantiation. The
    form with one exponent a loss is that of Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh
    Losses", CVPR 2018 (s = log sigma^2, factors 1/2 left out); the floor is this toolkit's.

    Args:
        values: float32 scalars, the losses, >= 0.
        exponents: float32 scalars s_k, of as many of the first losses.
        floor: >= 0; 0 for the forms without it.

    Returns:
        float32 scalar; may be below 0.
    """
    weighted = sum(ops.exp(-s) * (value + floor) + s for s, value in zip(exponents, values, strict=False))
    return weighted + sum(values[len(exponents) :])


@keras.saving.register_keras_serializable(package="tfretrieval")
class JointLoss(WeightedSum):
    """Keras loss of `joint`, on the same descriptors and labels for all parts.

    Args:
        parts: the losses; see `WeightedSum`.
        weights: one fixed factor for each, before the learned one.
        form: "fixed" learns nothing: the weighted sum; "single" learns one exponent, that of the first part:
            exp(-s) L_1 + L_2 + s; "uncertainty" one for each: exp(-s1) L_1 + exp(-s2) L_2 + s1 + s2.
        floor: see `joint`.

    Raises:
        ValueError: an unknown form; the form "lambda"; or a loss that may be negative under a learned weight, which has
            no minimum.
    """

    def __init__(self, parts, weights, form: str = "single", floor: float = FLOOR, name: str = "joint", **kwargs):
        super().__init__(parts, weights, name=name, **kwargs)
        if form == "lambda":
            raise ValueError(LAMBDA_REASON)
        if form not in FORMS:
            raise ValueError(f"the joint form {form} is unknown; one of {', '.join(FORMS)} is wanted.")
        self.form, self.floor = form, floor
        for part in self._learned_parts:
            if getattr(part, "may_be_negative", False):
                raise ValueError(
                    f"{part.name} may be negative, and a learned weight of it then grows without end; a loss of 0 or "
                    "more, or the joint form fixed, is wanted."
                )

    @property
    def _learned_parts(self) -> list[keras.losses.Loss]:
        return self.parts[: {"fixed": 0, "single": 1, "uncertainty": len(self.parts)}[self.form]]

    def build(self, instances: int, dimension: int, seed: int) -> None:
        """Makes the exponents, at first 0, and the variables of the parts; see `ClassificationLoss.build`."""
        super().build(instances, dimension, seed)
        self.own_trainable = [keras.Variable(0.0, dtype="float32", name=f"s_{p.name}") for p in self._learned_parts]

    @property
    def scalars(self) -> dict:
        """Exponent and learned weight of each part that has one, and what the parts tell, by name: float32 scalars."""
        found = super().scalars
        for part, exponent in zip(self._learned_parts, self.own_trainable, strict=False):
            s = 1.0 * exponent  # a tensor, where a conversion returns the variable
            found |= {f"joint/s_{part.name}": s, f"joint/weight_{part.name}": ops.exp(-s)}
        return found

    def call(self, y_true, y_pred):
        """Returns the joint loss, float32 scalar."""
        exponents = [ops.convert_to_tensor(exponent) for exponent in self.own_trainable]
        return joint(self.weighted(y_true, y_pred), exponents, self.floor)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "form": self.form, "floor": self.floor}
