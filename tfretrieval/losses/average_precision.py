"""Average precision of quantised similarities as a loss, plain and tie-aware."""

import keras
from keras import ops

from tfretrieval.losses import listwise, pairs

BINS, LOW = 20, -1.0


def average_precision(
    descriptors,
    labels,
    bins: int = BINS,
    low: float = LOW,
    tie_aware: bool = False,
    memory: pairs.Memory | None = None,
):
    """One minus the mean average precision of every photo as a query against the others, over soft histograms.

    Similarities fall into `bins` bins centred from 1 down to `low`, each shared linearly between the two nearest
    centres; what is beyond the ends counts fully in the end bins. With h_m and h+_m the photos and matches in bin m,
    H_m and H+_m their sums over bins 1 to m, and N+ the matches:

    AP = sum_m h+_m / N+ * H+_m / H_m, of He, Lu, Sclaroff, "Local Descriptors Optimized for Average Precision", CVPR
    2018, and Revaud et al., "Learning with Average Precision: Training Image Retrieval with a Listwise Loss", ICCV
    2019, with the latter's 20 bins over [-1, 1] (its code has 25 over [0, 1]). FastAP (Cakir et al., "Deep Metric
    Learning to Rank", CVPR 2019) is the same over 10 intervals of the squared distance: bins=11.

    tie_aware: AP = sum_m h+_m / N+ * (H+_{m-1} + H+_m + 1) / (H_{m-1} + H_m + 1), close to the mean AP over all
    orders of the photos in one bin; the simplified form of He et al., "Hashing as Tie-Aware Learning to Rank", CVPR
    2018. Their form with logarithms stays below 1 for a perfect order, which this one does not.

    A photo is not in its own list, and photos without a match are left out of the mean (both this toolkit's).

    Args:
        descriptors: [B, D], L2-normalised.
        labels: int [B].
        bins: number of bins, 2 or more.
        low: similarity of the last bin's centre, < 1.
        tie_aware: which form.
        memory: earlier photos to rank too.

    Returns:
        float32 scalar in [0, 1].
    """

    def list_loss(similarity, matching, other):
        place = ops.clip((1.0 - similarity) * ((bins - 1) / (1.0 - low)), 0.0, bins - 1.0)
        share = ops.relu(1.0 - ops.abs(place[:, :, None] - ops.arange(bins, dtype="float32")))
        hits, found = ops.einsum("rcm,rc->rm", share, matching), ops.einsum("rcm,rc->rm", share, matching + other)
        return 1.0 - _of_histograms(hits, found, tie_aware)

    return listwise.mean_over_lists(list_loss, descriptors, labels, memory, width=bins)


def _of_histograms(hits, found, tie_aware: bool):
    """Returns the AP [R] of soft counts [R, M] of matches and of all photos, most similar bin first."""
    hits_so_far, found_so_far = ops.cumsum(hits, axis=1), ops.cumsum(found, axis=1)
    if tie_aware:
        precision = (2.0 * hits_so_far - hits + 1.0) / (2.0 * found_so_far - found + 1.0)
    else:
        precision = hits_so_far / ops.where(found_so_far > 0, found_so_far, 1.0)
    return ops.sum(hits * precision, axis=1) / ops.maximum(hits_so_far[:, -1], 1.0)


@keras.saving.register_keras_serializable(package="tfretrieval")
class AveragePrecision(keras.losses.Loss):
    """Keras loss of `average_precision`; `y_true` is labels [B], `y_pred` descriptors [B, D].

    Args:
        bins: see `average_precision`.
        low: see `average_precision`.
    """

    tie_aware = False

    def __init__(self, bins: int = BINS, low: float = LOW, name: str = "average_precision", **kwargs):
        super().__init__(name=name, **kwargs)
        if bins < 2 or not low < 1:
            raise ValueError(f"bins={bins} and low={low} were given; 2 bins or more down to a low below 1 are wanted.")
        self.bins, self.low = bins, low

    def call(self, y_true, y_pred, memory: pairs.Memory | None = None):
        """Returns the batch's loss, float32 scalar."""
        return average_precision(y_pred, y_true, self.bins, self.low, self.tie_aware, memory)

    def get_config(self):
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "bins": self.bins, "low": self.low}


@keras.saving.register_keras_serializable(package="tfretrieval")
class TieAwareAveragePrecision(AveragePrecision):
    """Keras loss of `average_precision` in its tie-aware form; arguments are those of `AveragePrecision`."""

    tie_aware = True

    def __init__(self, bins: int = BINS, low: float = LOW, name: str = "tie_aware_average_precision", **kwargs):
        super().__init__(bins, low, name, **kwargs)
