"""Second-order similarity: two photos of an instance should be equally far from the photos of others."""

import keras
from keras import ops

from tfretrieval.losses import distances, pairs

WEIGHT = 10.0  # beside a triplet loss with margin 1.25, SOLAR's on ResNet-101


def tuple_second_order_similarity(descriptors):
    """Second-order similarity over mined tuples.

    R = 1/T ( sum_t sum_n (d(q_t,n)^2 - d(p_t,n)^2)^2 )^(1/2), n the negatives of tuple t.
    Source: Ng, Balntas, Tian, Mikolajczyk, "SOLAR: Second-Order Loss and Attention for Image Retrieval", ECCV 2020,
    after SOSNet (CVPR 2019), as in SOLAR's code. Alone it is least where all descriptors are equal: it regularises
    another loss, as in --loss=triplet+second_order_similarity --loss_weights=1+10.

    Args:
        descriptors: [T, 2 + N, D], L2-normalised.

    Returns:
        float32 scalar.
    """
    from_query = distances.paired(descriptors[:, :1], descriptors[:, 2:], "squared-L2")
    from_positive = distances.paired(descriptors[:, 1:2], descriptors[:, 2:], "squared-L2")
    tuples = ops.cast(ops.shape(from_query)[0], "float32")
    return pairs.root(ops.sum(ops.square(from_query - from_positive))) / tuples


def batch_second_order_similarity(descriptors, labels, memory: pairs.Memory | None = None):
    """Second-order similarity of each photo and its farthest match in the batch.

    R = 1/M ( sum_i sum_n (d(i,n)^2 - d(m_i,n)^2)^2 )^(1/2), m_i the match of i in the batch that is farthest from
    it, whose choice counts as constant, n their non-matches, M the number of photos with a match. Source: as
    `tuple_second_order_similarity`; the choice of the match is this toolkit's.

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        memory: earlier photos, which serve as non-matches.

    Returns:
        float32 scalar.
    """
    squared = distances.all_pairs(descriptors, "squared-L2", memory)
    matching, other = pairs.pair_masks(labels, memory)
    batch = ops.shape(squared)[0]
    matching = matching[:, :batch]
    match = ops.argmax((ops.stop_gradient(squared[:, :batch]) + 1.0) * matching, axis=1)
    matched = ops.max(matching, axis=1)
    difference = (squared - ops.take(squared, match, axis=0)) * other * matched[:, None]
    return pairs.root(ops.sum(ops.square(difference))) / ops.maximum(ops.sum(matched), 1.0)


@keras.saving.register_keras_serializable(package="tfretrieval")
class TupleSecondOrderSimilarity(keras.losses.Loss):
    """Keras loss of `tuple_second_order_similarity`; `y_true` is ignored, `y_pred` is [T, 2 + N, D]."""

    default_weight = WEIGHT

    def __init__(self, name: str = "second_order_similarity", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Returns the loss of the tuples together, float32 scalar."""
        del y_true
        return tuple_second_order_similarity(y_pred)


@keras.saving.register_keras_serializable(package="tfretrieval")
class BatchSecondOrderSimilarity(keras.losses.Loss):
    """Keras loss of `batch_second_order_similarity`; `y_true` is labels [B], `y_pred` descriptors [B, D]."""

    default_weight = WEIGHT

    def __init__(self, name: str = "batch_second_order_similarity", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred, memory: pairs.Memory | None = None):
        """Returns the batch's loss, float32 scalar."""
        return batch_second_order_similarity(y_pred, y_true, memory)
