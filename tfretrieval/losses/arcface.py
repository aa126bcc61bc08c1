"""ArcFace: softmax of cosines with an additive angular margin."""

import math

import keras
from keras import ops

from tfretrieval.losses import classification, pairs

MARGIN, SCALE = 0.5, 64.0


def arcface(descriptors, labels, class_weights, margin=MARGIN, scale: float = SCALE):
    """Softmax cross-entropy of scaled cosines to class weights, the angle to the own class's made larger.

    Logits: scale * cos(a_y + margin) for the photo's class y, scale * cos(a_c) for the others, a the angles; beyond
    a_y = pi - margin, where the cosine would rise again, scale * (cos(a_y) - margin * sin(margin)).
    Source: Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, and its authors'
    code for the second case. For landmarks DELG trains with scale sqrt(2048) = 45.25 and margin 0.1 (Cao, Araujo, Sim,
    "Unifying Deep Local and Global Features for Image Search", ECCV 2020).

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B], in [0, C).
        class_weights: float32 [C, D], of any length.
        margin: in radians, float or float32 scalar, in [0, pi / 2].
        scale: inverse temperature, > 0.

    Returns:
        float32 scalar, the mean over photos. The gradient is finite where descriptor and weight are equal or opposite.
    """
    own = ops.one_hot(ops.cast(labels, "int32"), ops.shape(class_weights)[0], dtype="float32")
    found = classification.cosines(descriptors, class_weights)
    margin = ops.cast(margin, "float32")
    cosine = ops.sum(own * found, axis=1)
    shifted = cosine * ops.cos(margin) - pairs.root(1.0 - ops.square(cosine)) * ops.sin(margin)
    own_logit = ops.where(cosine > ops.cos(math.pi - margin), shifted, cosine - margin * ops.sin(margin))
    return classification.cross_entropy(scale * (found + own * (own_logit - cosine)[:, None]), labels)


@keras.saving.register_keras_serializable(package="tfretrieval")
class ArcFace(classification.MarginSoftmax):
    """Keras loss of `arcface`; `y_true` is labels [B], `y_pred` descriptors [B, D]; class weights are its own.

    Args:
        margin: see `arcface`.
        scale: see `arcface`.
        warmup: see `classification.MarginSoftmax`; 0 is the paper's.
    """

    def __init__(self, margin: float = MARGIN, scale: float = SCALE, warmup: int = 0, name: str = "arcface", **kwargs):
        super().__init__(margin, scale, warmup, name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Returns the batch's loss, float32 scalar."""
        return arcface(y_pred, y_true, self.trainable_variables[0], self.next_margin(), self.scale)
