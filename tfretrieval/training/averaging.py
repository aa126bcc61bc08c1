"""Weights that are validated and saved: the network's own, their moving average, or a mix with the initial ones."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf


class WeightAverage:
    """Keeps what the saved weights are computed from.

    Saved = initial_share * initial + (1 - initial_share) * average, average <- d * average + (1 - d) * weights after
    each step, with d = min(decay, (1 + step) / (10 + step)) so that the first steps count little. BatchNorm statistics
    are averaged like the rest.

    Args:
        model: the network, with its initial weights.
        decay: of the moving average; 0 takes the network's own weights.
        initial_share: share of the initial weights, in [0, 1).
    """

    def __init__(self, model: keras.Model, decay: float, initial_share: float):
        self._weights = [weight for weight in model.weights if "float" in weight.dtype]
        self._decay, self._share = decay, initial_share
        self._initial = [weight.numpy() for weight in self._weights] if initial_share else []
        self.variables = [tf.Variable(weight.numpy(), trainable=False) for weight in self._weights] if decay else []

    def update(self, step: tf.Tensor) -> None:
        """Moves the average towards the weights; called in the training step's graph with the step's number."""
        if not self.variables:
            return
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(self._decay, (1 + step) / (10 + step))
        for average, weight in zip(self.variables, self._weights, strict=True):
            average.assign(decay * average + (1 - decay) * weight.value)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Puts the weights to save into the model for the length of a block, then the training's own back."""
        own = [weight.numpy() for weight in self._weights]
        saved = [variable.numpy() for variable in self.variables] or own
        if self._share:
            saved = [
                np.float32(self._share) * first + np.float32(1 - self._share) * last
                for first, last in zip(self._initial, saved, strict=True)
            ]
        self._assign(saved)
        try:
            yield
        finally:
            self._assign(own)

    def _assign(self, values: list[np.ndarray]) -> None:
        for weight, value in zip(self._weights, values, strict=True):
            weight.assign(value)
