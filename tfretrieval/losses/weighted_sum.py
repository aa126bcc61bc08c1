"""Several losses at once."""

import keras


class WeightedSum(keras.losses.Loss):
    """Sum of losses with fixed weights, on the same descriptors and labels.

    Args:
        parts: the losses, all over tuples or all in batches.
        weights: one factor for each.
    """

    def __init__(self, parts: list[keras.losses.Loss], weights: list[float], name: str = "weighted_sum", **kwargs):
        super().__init__(name=name, **kwargs)
        if len(parts) != len(weights):
            raise ValueError(f"{len(parts)} losses and {len(weights)} weights were given; one weight a loss is wanted.")
        self.parts, self.weights = parts, weights

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """Variables that the parts own."""
        return [variable for part in self.parts for variable in getattr(part, "trainable_variables", [])]

    def build(self, instances: int, dimension: int, seed: int) -> None:
        """Makes the variables of the parts that own some; see `NormSoftmax.build`."""
        for number, part in enumerate(self.parts):
            if hasattr(part, "build"):
                part.build(instances, dimension, seed + number)

    def call(self, y_true, y_pred):
        """Returns the weighted sum, float32 scalar."""
        return sum(weight * part(y_true, y_pred) for weight, part in zip(self.weights, self.parts, strict=True))
