"""Normalised softmax: classification of instances by the cosine to class weights that the loss owns."""

import keras
from keras import ops

from tfretrieval.losses import classification

SCALE, SMOOTHING = 16.0, 0.1


def norm_softmax(descriptors, labels, class_weights, scale: float = SCALE, smoothing: float = SMOOTHING):
    """Softmax cross-entropy of scaled cosines between descriptors and class weights.

    L_i = -sum_c y_c log softmax_c(scale * cos(x_i, w_c)), y the one-hot label mixed with the uniform distribution:
    1 - smoothing + smoothing / C for the photo's class, smoothing / C for the others.
    Source: Zhai, Wu, "Classification is a Strong Baseline for Deep Metric Learning", BMVC 2019.

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B], in [0, C).
        class_weights: float32 [C, D], of any length.
        scale: inverse temperature, > 0.
        smoothing: in [0, 1).

    Returns:
        float32 scalar, the mean over photos.
    """
    cosines = classification.cosines(descriptors, class_weights)
    classes = ops.shape(class_weights)[0]
    wanted = (1 - smoothing) * ops.one_hot(labels, classes) + smoothing / classes
    return ops.mean(ops.categorical_crossentropy(wanted, scale * cosines, from_logits=True))


@keras.saving.register_keras_serializable(package="tfretrieval")
class NormSoftmax(classification.ClassificationLoss):
    """Keras loss of `norm_softmax`; `y_true` is labels [B], `y_pred` descriptors [B, D]; class weights are its own.

    Args:
        scale: see `norm_softmax`.
        smoothing: see `norm_softmax`.
    """

    def __init__(self, scale: float = SCALE, smoothing: float = SMOOTHING, name: str = "norm_softmax", **kwargs):
        super().__init__(name=name, **kwargs)
        self.scale, self.smoothing = scale, smoothing

    def call(self, y_true, y_pred):
        """Returns the batch's loss, float32 scalar."""
        return norm_softmax(y_pred, y_true, self.trainable_variables[0], self.scale, self.smoothing)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "scale": self.scale, "smoothing": self.smoothing}
