"""The contrastive (siamese) loss, over mined tuples and over all pairs of a batch."""

import keras
from keras import ops

from tfretrieval.losses import pairs

MARGIN = 0.85  # ResNet-101 in the paper; 0.75 for VGG16, 0.7 for AlexNet


def tuple_contrastive(descriptors, margin: float = MARGIN):
    """Contrastive loss summed over the 1 + N pairs of each tuple.

    L = 1/2 [ d(q,p)^2 + sum_n max(0, margin - d(q,n))^2 ], d the Euclidean distance of unit descriptors.
    Source: Radenovic, Tolias, Chum, TPAMI 2018.

    Args:
        descriptors: [T, 2 + N, D], L2-normalised: query, positive, negatives.
        margin: distance beyond which negatives cost nothing, in (0, 2].

    Returns:
        float32 [T].
    """
    positive, negatives = pairs.tuple_distances(descriptors)
    return 0.5 * (positive + ops.sum(ops.square(ops.maximum(margin - pairs.root(negatives), 0.0)), axis=1))


def batch_contrastive(descriptors, labels, margin: float = MARGIN):
    """Contrastive loss of all pairs in a batch: mean over matching pairs plus mean over close others.

    The pair's term is that of `tuple_contrastive`; others are the non-matching pairs nearer than the margin.
    Averaging the two kinds apart keeps the many non-matching pairs of a batch from drowning the matching ones; this
    weighting is this toolkit's.

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        margin: distance beyond which non-matching pairs cost nothing.

    Returns:
        float32 scalar.
    """
    squared = pairs.all_squared_distances(descriptors)
    matching, other = pairs.pair_masks(labels)
    pushed = ops.square(ops.maximum(margin - pairs.root(squared), 0.0))
    return 0.5 * (pairs.mean_over(squared, matching) + pairs.mean_over(pushed, other * ops.cast(pushed > 0, "float32")))


@keras.saving.register_keras_serializable(package="tfretrieval")
class TupleContrastive(keras.losses.Loss):
    """Keras loss of `tuple_contrastive`; `y_true` is ignored, `y_pred` is [T, 2 + N, D]; mean over tuples.

    Args:
        margin: see `tuple_contrastive`.
    """

    def __init__(self, margin: float = MARGIN, name: str = "contrastive", **kwargs):
        super().__init__(name=name, **kwargs)
        self.margin = margin

    def call(self, y_true, y_pred):
        """Returns the loss of each tuple, float32 [T]."""
        del y_true
        return tuple_contrastive(y_pred, self.margin)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable(package="tfretrieval")
class BatchContrastive(keras.losses.Loss):
    """Keras loss of `batch_contrastive`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    Args:
        margin: see `batch_contrastive`.
    """

    def __init__(self, margin: float = MARGIN, name: str = "batch_contrastive", **kwargs):
        super().__init__(name=name, **kwargs)
        self.margin = margin

    def call(self, y_true, y_pred):
        """Returns the batch's loss, float32 scalar."""
        return batch_contrastive(y_pred, y_true, self.margin)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "margin": self.margin}
