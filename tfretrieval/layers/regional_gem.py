"""Generalised-mean pooling of regions."""

import keras
from keras import ops

from tfretrieval.layers import masking
from tfretrieval.layers.gem import GeM, gem
from tfretrieval.layers.regions import reduce_regions, region_grid

_NO_POSITION = -1e30  # logarithm of the power of what does not count; finite, so that differences are numbers


def regional_gem(maps, p, epsilon: float = 1e-6, mask=None):
    """Sums the L2-normalised generalised means of the whole map and of every region of `region_grid`.

    Source: the "regional" option of the code of Radenovic, Tolias, Chum (TPAMI 2018) with GeM in the regions and
    without a whitening of each. Masks are this toolkit's: a region without a position that counts adds nothing.

    Computed with logarithms of sums of powers, region by region: none overflows or underflows at large p.

    Args:
        maps: float [N, H, W, C], activations, expected non-negative, any H and W.
        p: float [] or [C], > 0.
        epsilon: smaller activations are raised to this before the power.
        mask: bool [N, H, W], true where a position counts.

    Returns:
        float32 [N, C], not normalised; zeros where no position counts.
    """
    total = masking.unit_length(gem(maps, p, epsilon, mask))
    maps, mask = masking.prepare(maps, mask)
    logs = p * ops.log(ops.maximum(maps, epsilon))
    counted = ops.ones_like(maps[..., :1])
    if mask is not None:
        logs, counted = ops.where(mask, logs, _NO_POSITION), ops.cast(mask, "float32")
    for level in region_grid(*ops.shape(maps)[1:3]):
        positions = reduce_regions(counted, level, ops.sum)
        log_means = reduce_regions(logs, level, ops.logsumexp) - ops.log(ops.maximum(positions, 1.0))
        means = ops.where(positions > 0, ops.exp(log_means / p), 0.0)
        total += ops.cast(level.counts, "float32") * ops.sum(masking.unit_length(means), axis=(1, 2))
    return total


@keras.saving.register_keras_serializable(package="tfretrieval")
class RegionalGeM(GeM):
    """Generalised-mean pooling of regions of feature maps, [N, H, W, C] -> [N, C]; see `regional_gem`.

    Args and the weights "p" are those of `GeM`.

    Example:
        >>> RegionalGeM()(np.ones((2, 7, 9, 4))).shape
        (2, 4)
    """

    needs_grid = True

    def pool(self, maps, mask):
        """Returns the sums over regions."""
        return regional_gem(maps, ops.convert_to_tensor(self.p), self.epsilon, mask)
