"""What losses that classify instances share: class weights, and margins that rise as training begins."""

import keras
from keras import ops

from tfretrieval.losses.owning import OwningLoss


def cosines(descriptors, class_weights):
    """Returns the cosines of unit descriptors [B, D] to class weights [C, D] of any length: float32 [B, C]."""
    return ops.matmul(ops.cast(descriptors, "float32"), ops.transpose(ops.normalize(class_weights, axis=-1)))


def cross_entropy(logits, labels):
    """Returns the mean over rows of the cross-entropy of logits [B, C] with labels int [B]: float32 scalar."""
    return ops.mean(ops.sparse_categorical_crossentropy(ops.cast(labels, "int32"), logits, from_logits=True))


class ClassificationLoss(OwningLoss):
    """A loss that compares descriptors with weights of each class.

    The class weights are the loss's own variables: training moves and checkpoints them, and the export has none of
    them. `build` makes them.

    Attributes:
        trainable_variables: the class weights first; empty before `build`.
        non_trainable_variables: what changes in training without a gradient.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.trainable_variables: list[keras.Variable] = []
        self.non_trainable_variables: list[keras.Variable] = []

    def build(self, instances: int, dimension: int, seed: int) -> None:
        """Makes the class weights.

        Args:
            instances: number of classes C.
            dimension: of the descriptors, D.
            seed: of their random directions.
        """
        start = keras.random.normal((instances, dimension), seed=seed)
        self.trainable_variables = [keras.Variable(ops.normalize(start, axis=-1), name="class_weights")]


class MarginSoftmax(ClassificationLoss):
    """A softmax of scaled cosines in which the photo's own class is put off by a margin.

    Args:
        margin: at its highest, >= 0.
        scale: inverse temperature, > 0.
        warmup: calls over which the margin rises linearly from 0; 0 for the whole margin from the first call on. Calls
            are counted in a variable of the loss, so that a resumed training goes on with the same margin.
    """

    def __init__(self, margin: float, scale: float, warmup: int, **kwargs):
        super().__init__(**kwargs)
        if warmup < 0:
            raise ValueError(f"warmup={warmup} was given; 0 calls or more are wanted.")
        self.margin, self.scale, self.warmup = margin, scale, warmup

    def build(self, instances: int, dimension: int, seed: int) -> None:
        """Makes the class weights, and the count of calls where the margin rises; see `ClassificationLoss.build`."""
        super().build(instances, dimension, seed)
        if self.warmup:
            # Replicas that share a batch all count the same calls.
            self.non_trainable_variables = [
                keras.Variable(0, dtype="int32", trainable=False, aggregation="only_first_replica", name="calls")
            ]

    @property
    def current_margin(self):
        """The margin of the next call, float32 scalar."""
        if not self.non_trainable_variables:
            return ops.cast(self.margin, "float32")
        done = ops.cast(self.non_trainable_variables[0].value, "float32")
        return self.margin * ops.minimum(1.0, done / self.warmup)

    @property
    def scalars(self) -> dict:
        """What changes and is worth logging, by name: float32 scalars."""
        return {f"{self.name}/margin": self.current_margin} if self.warmup else {}

    def next_margin(self):
        """Returns `current_margin` and counts one call."""
        margin = self.current_margin
        for calls in self.non_trainable_variables:
            calls.assign_add(1)
        return margin

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "margin": self.margin, "scale": self.scale, "warmup": self.warmup}
