"""Losses made of other losses: what they own together."""

import keras

from tfretrieval.losses.owning import OwningLoss


class CompositeLoss(OwningLoss):
    """A loss made of parts, whose variables and scalars are its own.

    Args:
        parts: the losses. A part may own `trainable_variables` and `non_trainable_variables`, make them in `build`, and
            tell `scalars` for the log.
    """

    def __init__(self, parts: list[keras.losses.Loss], **kwargs):
        super().__init__(**kwargs)
        self.parts = list(parts)
        self.own_trainable: list[keras.Variable] = []
        self.own_non_trainable: list[keras.Variable] = []

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """Variables that training moves by their gradient: those of the parts, then the loss's own."""
        return [v for part in self.parts for v in getattr(part, "trainable_variables", [])] + self.own_trainable

    @property
    def non_trainable_variables(self) -> list[keras.Variable]:
        """Variables that change in training without a gradient: those of the parts, then the loss's own."""
        return [v for part in self.parts for v in getattr(part, "non_trainable_variables", [])] + self.own_non_trainable

    @property
    def scalars(self) -> dict:
        """What changes and is worth logging, by name: float32 scalars."""
        return {name: value for part in self.parts for name, value in getattr(part, "scalars", {}).items()}

    @property
    def may_be_negative(self) -> bool:
        """Whether a part has no lower bound of 0."""
        return any(getattr(part, "may_be_negative", False) for part in self.parts)

    def build(self, instances: int, dimension: int, seed: int) -> None:
        """Makes the variables of the parts that own some; see `ClassificationLoss.build`."""
        for number, part in enumerate(self.parts):
            if hasattr(part, "build"):
                part.build(instances, dimension, seed + number)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "parts": [keras.saving.serialize_keras_object(part) for part in self.parts]}

    @classmethod
    def from_config(cls, config):
        """Makes the loss of a configuration that `get_config` returned."""
        parts = [keras.saving.deserialize_keras_object(part) for part in config["parts"]]
        return cls(**{**config, "parts": parts})


class Wrapper(CompositeLoss):
    """A loss around one other.

    Args:
        loss: the other.
    """

    def __init__(self, loss: keras.losses.Loss, **kwargs):
        super().__init__([loss], **kwargs)

    @property
    def loss(self) -> keras.losses.Loss:
        """The loss within."""
        return self.parts[0]

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        config = super().get_config()
        (loss,) = config.pop("parts")
        return {**config, "loss": loss}

    @classmethod
    def from_config(cls, config):
        """Makes the loss of a configuration that `get_config` returned."""
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})
