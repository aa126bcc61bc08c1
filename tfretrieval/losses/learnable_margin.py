"""A margin that is learned with the network."""

import math

import keras
from keras import ops

from tfretrieval.losses.composite import Wrapper


@keras.saving.register_keras_serializable(package="tfretrieval")
class LearnableMargin(Wrapper):
    """Learns the margin of a loss: L(tau) + penalty * (tau - margin)^2, with tau = softplus(t) > 0.

    A hinge never costs less with a larger margin, so without the penalty tau falls to 0. The loss's own margin is where
    tau begins and what the penalty holds it to. This toolkit's.

    Args:
        loss: a loss with a margin.
        penalty: > 0; the smaller, the farther tau may go.

    Raises:
        ValueError: the loss has no margin, or the penalty is not above 0.
    """

    def __init__(self, loss: keras.losses.Loss, penalty: float, name: str | None = None, **kwargs):
        super().__init__(loss, name=name or loss.name, **kwargs)
        if not hasattr(loss, "margin"):
            raise ValueError(f"{loss.name} has no margin to learn; a loss with one is wanted.")
        if not penalty > 0:
            raise ValueError(
                f"the margin of {loss.name} was to be learned with penalty={penalty}, and without a penalty above 0 it "
                "falls to 0, where the loss costs least."
            )
        self.penalty = penalty

    def build(self, instances: int, dimension: int, seed: int) -> None:
        """Makes t, and the variables of the loss within; see `ClassificationLoss.build`."""
        super().build(instances, dimension, seed)
        self.own_trainable = [keras.Variable(math.log(math.expm1(self.loss.margin)), dtype="float32", name="margin")]

    @property
    def margin(self):
        """tau, float32 scalar."""
        return ops.softplus(ops.convert_to_tensor(self.own_trainable[0]))

    @property
    def scalars(self) -> dict:
        """tau, and what the loss within tells, by name: float32 scalars."""
        return {**super().scalars, f"{self.name}/margin": self.margin}

    def call(self, y_true, y_pred):
        """Returns the loss with the learned margin and its penalty, float32 scalar."""
        margin = self.margin
        # The same loss with the margin of this call. `copy.copy` would make one without its variables.
        loss = object.__new__(type(self.loss))
        loss.__dict__.update(self.loss.__dict__, margin=margin)
        return loss(y_true, y_pred) + self.penalty * ops.square(margin - self.loss.margin)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "penalty": self.penalty}
