"""Cross-batch memory: pairs of a batch's photos with those of earlier batches."""

import inspect

import keras
from keras import ops

from tfretrieval.losses import pairs
from tfretrieval.losses.composite import Wrapper

START = 1000


@keras.saving.register_keras_serializable(package="tfretrieval")
class CrossBatchMemory(Wrapper):
    """An in-batch loss that compares each photo of a batch with the batch and with the newest photos before it.

    The newest descriptors and labels are remembered as the network made them; the gradient flows to the batch alone.
    Source: Wang, Zhang, Huang, Scott, "Cross-Batch Memory for Embedding Learning", CVPR 2020, which adds the loss over
    the memory to the loss over the batch; here one list holds both, so that mining, softmax and ranks see all photos
    at once (this toolkit's). A batch enters the memory after its loss, so no photo meets itself as it is; an earlier
    view of a photo is a match like any other.

    Every call remembers its batch: call the loss once each step of training, and not to evaluate.

    Args:
        loss: an in-batch loss over pairs or lists, whose `call` takes a `memory`.
        size: photos remembered, > 0; the paper takes up to the whole training set.
        start: calls before the memory is used, while the network still changes fast; 1000 in the paper's code.

    Raises:
        ValueError: the loss takes no memory, or a size or start out of range.
    """

    def __init__(self, loss, size: int, start: int = START, name: str | None = None, **kwargs):
        super().__init__(loss, name=name or loss.name, **kwargs)
        if "memory" not in inspect.signature(loss.call).parameters:
            raise ValueError(f"{loss.name} compares no pairs of a batch; a cross-batch memory wants a loss that does.")
        if size < 1 or start < 0:
            raise ValueError(f"size={size} and start={start} were given; 1 photo or more from call 0 on is wanted.")
        self.size, self.start = size, start

    def build(self, instances: int, dimension: int, seed: int) -> None:
        """Makes the empty memory, and the variables of the loss within; see `ClassificationLoss.build`."""
        super().build(instances, dimension, seed)
        # Replicas that share a batch all remember the same.
        fixed = {"trainable": False, "aggregation": "only_first_replica"}
        self.own_non_trainable = [
            keras.Variable(ops.zeros((self.size, dimension)), dtype="float32", name="memory", **fixed),
            keras.Variable(-ops.ones((self.size,), dtype="int32"), dtype="int32", name="memory_labels", **fixed),
            keras.Variable(0, dtype="int32", name="calls", **fixed),
        ]

    def call(self, y_true, y_pred):
        """Returns the batch's loss, float32 scalar, and remembers the batch."""
        descriptors, labels, calls = self.own_non_trainable
        seen = ops.where(calls.value >= self.start, labels.value, -1)
        value = self.loss.call(y_true, y_pred, memory=pairs.Memory(descriptors.value, seen))
        newest = ops.stop_gradient(ops.cast(y_pred, "float32"))
        descriptors.assign(ops.concatenate([descriptors.value, newest])[-self.size :])
        labels.assign(ops.concatenate([labels.value, ops.cast(ops.reshape(y_true, (-1,)), "int32")])[-self.size :])
        calls.assign_add(1)
        return value

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "size": self.size, "start": self.start}
