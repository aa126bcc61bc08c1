"""Several losses at once."""

import keras

from tfretrieval.losses.composite import CompositeLoss


@keras.saving.register_keras_serializable(package="tfretrieval")
class WeightedSum(CompositeLoss):
    """Sum of losses with fixed weights, on the same descriptors and labels.

    Args:
        parts: the losses, all over tuples or all in batches; `PhotosOfTuples` makes one in batches take tuples.
        weights: one factor for each.
    """

    def __init__(self, parts: list[keras.losses.Loss], weights: list[float], name: str = "weighted_sum", **kwargs):
        super().__init__(parts, name=name, **kwargs)
        if len(parts) != len(weights):
            raise ValueError(f"{len(parts)} losses and {len(weights)} weights were given; one weight a loss is wanted.")
        self.weights = list(weights)

    def weighted(self, y_true, y_pred) -> list:
        """Returns each part's loss times its weight, float32 scalars."""
        return [weight * part(y_true, y_pred) for weight, part in zip(self.weights, self.parts, strict=True)]

    def call(self, y_true, y_pred):
        """Returns the weighted sum, float32 scalar."""
        return sum(self.weighted(y_true, y_pred))

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "weights": self.weights}
