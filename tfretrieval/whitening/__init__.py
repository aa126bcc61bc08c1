"""Linear whitening of descriptors, fitted from samples and folded into the network."""

from tfretrieval.whitening.automatic import METHODS, fit, summary_lines
from tfretrieval.whitening.fits import SHRINKAGE, TOTAL_SHARE, fit_discriminative, fit_pairs, fit_pca
from tfretrieval.whitening.linear import Whitening
from tfretrieval.whitening.pairs import pairs_of, read_pairs
from tfretrieval.whitening.shrinkage import choose_shrinkage

__all__ = [
    "METHODS",
    "SHRINKAGE",
    "TOTAL_SHARE",
    "Whitening",
    "choose_shrinkage",
    "fit",
    "fit_discriminative",
    "fit_pairs",
    "fit_pca",
    "pairs_of",
    "read_pairs",
    "summary_lines",
]
