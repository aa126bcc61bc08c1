"""N-pairs loss over a batch, and over matrices of similarities as tensorflow-addons takes them."""

import keras
from keras import ops

from tfretrieval.losses import pairs

TEMPERATURE = 0.1  # this toolkit's, for unit descriptors; 1 for the paper's, whose length is free


def n_pairs(descriptors, labels, temperature: float = TEMPERATURE, memory: pairs.Memory | None = None):
    """N-pairs loss: each match of a photo against all its non-matches in the batch.

    L = mean_{(a,p)} log(1 + sum_n exp((s_an - s_ap) / temperature)), the mean over ordered matching pairs.
    Source: Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", NeurIPS 2016, which takes one
    pair of each instance; here all pairs and all non-matches of the batch serve, and unit descriptors take the place
    of its penalty on their length.

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        temperature: > 0.
        memory: earlier photos to compare with too.

    Returns:
        float32 scalar; 0 without a matching pair, and without a non-match.
    """
    matching, other = pairs.pair_masks(labels, memory)
    logits = pairs.similarities(descriptors, memory) / temperature
    pushed = pairs.masked_logsumexp(logits, other)
    return pairs.mean_over(ops.softplus(pushed[:, None] - logits), matching)


def similarity_n_pairs(similarities, shared_labels):
    """N-pairs loss of a given matrix of similarities, as in tensorflow-addons.

    L = -mean_i sum_j y_ij log softmax_j(s_ij), y_ij the shared labels of i and j over those that i shares with all.

    Args:
        similarities: [B, B], row i those of anchor i to all positives.
        shared_labels: float32 [B, B], how many labels i and j have in common; see `same_labels`, `common_labels`.

    Returns:
        float32 scalar; an anchor that shares no label costs nothing.
    """
    similarities = ops.cast(similarities, "float32")
    wanted = shared_labels / ops.maximum(ops.sum(shared_labels, axis=1, keepdims=True), 1.0)
    return ops.mean(-ops.sum(wanted * ops.log_softmax(similarities, axis=1), axis=1))


def same_labels(labels):
    """Returns 1 for pairs of equal label, a photo with itself too: int [B] -> float32 [B, B]."""
    return 1.0 - pairs.pair_masks(labels)[1]


def common_labels(indicators):
    """Returns how many classes each pair has in common: [B, C] of 0 and 1 -> float32 [B, B]."""
    indicators = ops.cast(indicators, "float32")
    return ops.matmul(indicators, ops.transpose(indicators))


@keras.saving.register_keras_serializable(package="tfretrieval")
class NPairs(keras.losses.Loss):
    """Keras loss of `n_pairs`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    Args:
        temperature: see `n_pairs`.
    """

    def __init__(self, temperature: float = TEMPERATURE, name: str = "n_pairs", **kwargs):
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def call(self, y_true, y_pred, memory: pairs.Memory | None = None):
        """Returns the batch's loss, float32 scalar."""
        return n_pairs(y_pred, y_true, self.temperature, memory)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="tfretrieval")
class SimilarityNPairs(keras.losses.Loss):
    """Keras loss of `similarity_n_pairs`; `y_pred` is a matrix of similarities [B, B].

    Args:
        multilabel: whether `y_true` is [B, C] of 0 and 1, the classes of each photo; otherwise it is labels [B].
    """

    def __init__(self, multilabel: bool = False, name: str = "similarity_n_pairs", **kwargs):
        super().__init__(name=name, **kwargs)
        self.multilabel = multilabel

    def call(self, y_true, y_pred, memory: pairs.Memory | None = None):
        """Returns the batch's loss, float32 scalar."""
        return similarity_n_pairs(y_pred, common_labels(y_true) if self.multilabel else same_labels(y_true))

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "multilabel": self.multilabel}
