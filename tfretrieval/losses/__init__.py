"""Losses on descriptors: each a function, a Keras `Loss`, and an entry of the registry that `--loss` reads.

Tuple losses take the descriptors of tuples, [T, 2 + N, D]: query, positive, N negatives. In-batch losses take the
descriptors of a batch, [B, D], with instance labels, and find their pairs themselves.
"""

from tfretrieval.losses.arcface import ArcFace
from tfretrieval.losses.average_precision import AveragePrecision, TieAwareAveragePrecision
from tfretrieval.losses.circle import Circle
from tfretrieval.losses.contrastive import BatchContrastive, DistanceContrastive, TupleContrastive
from tfretrieval.losses.cosface import CosFace
from tfretrieval.losses.cross_batch_memory import CrossBatchMemory
from tfretrieval.losses.joint import JointLoss
from tfretrieval.losses.learnable_margin import LearnableMargin
from tfretrieval.losses.lifted_structure import LiftedStructure
from tfretrieval.losses.lrml import LRML
from tfretrieval.losses.margin import Margin
from tfretrieval.losses.multi_similarity import MultiSimilarity
from tfretrieval.losses.n_pairs import NPairs, SimilarityNPairs
from tfretrieval.losses.norm_softmax import NormSoftmax
from tfretrieval.losses.photos_of_tuples import PhotosOfTuples
from tfretrieval.losses.proxy_anchor import ProxyAnchor
from tfretrieval.losses.proxy_nca import ProxyNCA
from tfretrieval.losses.quadruplet import TupleQuadruplet
from tfretrieval.losses.ranked_list import RankedList
from tfretrieval.losses.second_order_similarity import BatchSecondOrderSimilarity, TupleSecondOrderSimilarity
from tfretrieval.losses.semi_hard_triplet import BatchSemiHardTriplet
from tfretrieval.losses.smooth_ap import SmoothAP
from tfretrieval.losses.soft_triplet import BatchSoftTriplet, TupleSoftTriplet
from tfretrieval.losses.softmax import Softmax
from tfretrieval.losses.supervised_contrastive import SupervisedContrastive
from tfretrieval.losses.triplet import BatchHardTriplet, TupleTriplet
from tfretrieval.losses.weighted_sum import WeightedSum

TUPLE_LOSSES = {
    "contrastive": TupleContrastive,
    "lrml": LRML,
    "quadruplet": TupleQuadruplet,
    "second_order_similarity": TupleSecondOrderSimilarity,
    "soft_triplet": TupleSoftTriplet,
    "triplet": TupleTriplet,
}
BATCH_LOSSES = {
    "arcface": ArcFace,
    "average_precision": AveragePrecision,
    "batch_contrastive": BatchContrastive,
    "batch_hard_triplet": BatchHardTriplet,
    "batch_second_order_similarity": BatchSecondOrderSimilarity,
    "batch_semi_hard_triplet": BatchSemiHardTriplet,
    "batch_soft_triplet": BatchSoftTriplet,
    "circle": Circle,
    "cosface": CosFace,
    "lifted_structure": LiftedStructure,
    "margin": Margin,
    "multi_similarity": MultiSimilarity,
    "n_pairs": NPairs,
    "norm_softmax": NormSoftmax,
    "proxy_anchor": ProxyAnchor,
    "proxy_nca": ProxyNCA,
    "ranked_list": RankedList,
    "smooth_ap": SmoothAP,
    "softmax": Softmax,
    "supervised_contrastive": SupervisedContrastive,
    "tie_aware_average_precision": TieAwareAveragePrecision,
}
LOSSES = {**TUPLE_LOSSES, **BATCH_LOSSES}

__all__ = [
    "BATCH_LOSSES",
    "LOSSES",
    "TUPLE_LOSSES",
    "CrossBatchMemory",
    "DistanceContrastive",
    "JointLoss",
    "LearnableMargin",
    "PhotosOfTuples",
    "SimilarityNPairs",
    "WeightedSum",
    *(loss.__name__ for loss in LOSSES.values()),
]
