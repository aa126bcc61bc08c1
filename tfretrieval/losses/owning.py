"""Losses that own variables."""

import keras


class OwningLoss(keras.losses.Loss):
    """A loss with variables of its own, which training moves and checkpoints and which the export has none of.

    Attributes:
        trainable_variables: those that training moves by their gradient.
        non_trainable_variables: those that change in training without a gradient.
    """

    trainable_variables = ()
    non_trainable_variables = ()

    @property
    def variables(self) -> list[keras.Variable]:
        """All that a checkpoint of training needs."""
        return [*self.trainable_variables, *self.non_trainable_variables]
