"""Losses on descriptors: each a function, a Keras `Loss`, and an entry of the registry that `--loss` reads.

Tuple losses take the descriptors of tuples, [T, 2 + N, D]: query, positive, N negatives. In-batch losses take the
descriptors of a batch, [B, D], with instance labels, and find their pairs themselves.
"""

from tfretrieval.losses.contrastive import BatchContrastive, TupleContrastive
from tfretrieval.losses.multi_similarity import MultiSimilarity
from tfretrieval.losses.norm_softmax import NormSoftmax
from tfretrieval.losses.supervised_contrastive import SupervisedContrastive
from tfretrieval.losses.triplet import BatchHardTriplet, TupleTriplet
from tfretrieval.losses.weighted_sum import WeightedSum

TUPLE_LOSSES = {"contrastive": TupleContrastive, "triplet": TupleTriplet}
BATCH_LOSSES = {
    "batch_contrastive": BatchContrastive,
    "batch_hard_triplet": BatchHardTriplet,
    "multi_similarity": MultiSimilarity,
    "norm_softmax": NormSoftmax,
    "supervised_contrastive": SupervisedContrastive,
}
LOSSES = {**TUPLE_LOSSES, **BATCH_LOSSES}

__all__ = ["BATCH_LOSSES", "LOSSES", "TUPLE_LOSSES", "WeightedSum", *(loss.__name__ for loss in LOSSES.values())]
