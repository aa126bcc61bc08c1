"""CosFace: softmax of cosines with an additive cosine margin."""

import keras
from keras import ops

from tfretrieval.losses import classification

MARGIN, SCALE = 0.35, 64.0


def cosface(descriptors, labels, class_weights, margin=MARGIN, scale: float = SCALE):
    """Softmax cross-entropy of scaled cosines to class weights, the own class's less a margin.

    Logits: scale * (cos_y - margin) for the photo's class y, scale * cos_c for the others.
    Source: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018.

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B], in [0, C).
        class_weights: float32 [C, D], of any length.
        margin: float or float32 scalar, in [0, 1).
        scale: inverse temperature, > 0.

    Returns:
        float32 scalar, the mean over photos.
    """
    own = ops.one_hot(ops.cast(labels, "int32"), ops.shape(class_weights)[0], dtype="float32")
    found = classification.cosines(descriptors, class_weights)
    return classification.cross_entropy(scale * (found - margin * own), labels)


@keras.saving.register_keras_serializable(package="tfretrieval")
class CosFace(classification.MarginSoftmax):
    """Keras loss of `cosface`; `y_true` is labels [B], `y_pred` descriptors [B, D]; class weights are its own.

    Args:
        margin: see `cosface`.
        scale: see `cosface`.
        warmup: see `classification.MarginSoftmax`; 0 is the paper's.
    """

    def __init__(self, margin: float = MARGIN, scale: float = SCALE, warmup: int = 0, name: str = "cosface", **kwargs):
        super().__init__(margin, scale, warmup, name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Returns the batch's loss, float32 scalar."""
        return cosface(y_pred, y_true, self.trainable_variables[0], self.next_margin(), self.scale)
