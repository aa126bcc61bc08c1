"""Plain softmax classification of instances."""

import keras
from keras import ops

from tfretrieval.losses import classification


def softmax(descriptors, labels, class_weights, bias):
    """Softmax cross-entropy of a linear classifier, with logits w_c . x + b_c.

    Source: the fine-tuning of Babenko et al., "Neural Codes for Image Retrieval", ECCV 2014.

    Args:
        descriptors: [B, D].
        labels: int [B], in [0, C).
        class_weights: float32 [C, D].
        bias: float32 [C].

    Returns:
        float32 scalar, the mean over photos.
    """
    logits = ops.matmul(ops.cast(descriptors, "float32"), ops.transpose(class_weights)) + bias
    return classification.cross_entropy(logits, labels)


@keras.saving.register_keras_serializable(package="tfretrieval")
class Softmax(classification.ClassificationLoss):
    """Keras loss of `softmax`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    Class weights, at first unit vectors, and biases, at first 0, are the loss's own variables. Descriptors have length
    1, so the weights must grow for the loss to fall far; losses of scaled cosines need not wait for that.
    """

    def __init__(self, name: str = "softmax", **kwargs):
        super().__init__(name=name, **kwargs)

    def build(self, instances: int, dimension: int, seed: int) -> None:
        """Makes the class weights and biases; see `ClassificationLoss.build`."""
        super().build(instances, dimension, seed)
        self.trainable_variables.append(keras.Variable(ops.zeros((instances,)), name="class_bias"))

    def call(self, y_true, y_pred):
        """Returns the batch's loss, float32 scalar."""
        return softmax(y_pred, y_true, *self.trainable_variables)
