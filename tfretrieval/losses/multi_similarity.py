"""Multi-similarity loss with its own pair mining."""

import keras
from keras import ops

from tfretrieval.losses import pairs

ALPHA, BETA, BASE, EPSILON = 2.0, 50.0, 0.5, 0.1


def multi_similarity(descriptors, labels, alpha=ALPHA, beta=BETA, base=BASE, epsilon=EPSILON, memory=None):
    """Multi-similarity loss.

    L_i = 1/alpha log(1 + sum_p exp(-alpha (s_ip - base))) + 1/beta log(1 + sum_n exp(beta (s_in - base))),
    over the pairs that mining keeps: a match less similar than the most similar non-match plus epsilon, a non-match
    more similar than the least similar match less epsilon. Source: Wang et al., "Multi-Similarity Loss with General
    Pair Weighting for Deep Metric Learning", CVPR 2019, with the constants of its authors' code.

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        alpha: sharpness over matches, > 0.
        beta: sharpness over non-matches, > 0.
        base: similarity around which pairs count, in [-1, 1].
        epsilon: slack of the mining.
        memory: a `pairs.Memory`: earlier photos to compare with too.

    Returns:
        float32 scalar, the mean over photos.
    """
    similarity = pairs.similarities(descriptors, memory)
    matching, other = pairs.pair_masks(labels, memory)
    least_match = ops.min(ops.where(matching > 0, similarity, 2.0), axis=1, keepdims=True)
    most_other = ops.max(ops.where(other > 0, similarity, -2.0), axis=1, keepdims=True)
    kept = matching * ops.cast(similarity < most_other + epsilon, "float32")
    pushed = other * ops.cast(similarity > least_match - epsilon, "float32")
    pull = ops.log1p(ops.sum(kept * ops.exp(-alpha * (similarity - base)), axis=1)) / alpha
    push = ops.log1p(ops.sum(pushed * ops.exp(beta * (similarity - base)), axis=1)) / beta
    return ops.mean(pull + push)


@keras.saving.register_keras_serializable(package="tfretrieval")
class MultiSimilarity(keras.losses.Loss):
    """Keras loss of `multi_similarity`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    Args:
        alpha: see `multi_similarity`.
        beta: see `multi_similarity`.
        base: see `multi_similarity`.
        epsilon: see `multi_similarity`.
    """

    def __init__(self, alpha=ALPHA, beta=BETA, base=BASE, epsilon=EPSILON, name: str = "multi_similarity", **kwargs):
        super().__init__(name=name, **kwargs)
        self.alpha, self.beta, self.base, self.epsilon = alpha, beta, base, epsilon

    def call(self, y_true, y_pred, memory: pairs.Memory | None = None):
        """Returns the batch's loss, float32 scalar."""
        return multi_similarity(y_pred, y_true, self.alpha, self.beta, self.base, self.epsilon, memory)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        own = {"alpha": self.alpha, "beta": self.beta, "base": self.base, "epsilon": self.epsilon}
        return {**super().get_config(), **own}
