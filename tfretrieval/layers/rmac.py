"""Regional maximum pooling (R-MAC)."""

import keras
from keras import ops

from tfretrieval.layers import masking
from tfretrieval.layers.mac import LOWEST, mac
from tfretrieval.layers.pooling import Pooling
from tfretrieval.layers.regions import reduce_regions, region_grid


def rmac(maps, mask=None):
    """Sums the L2-normalised maxima of the whole map and of every region of `region_grid`.

    Source: Tolias, Sicre, Jegou, "Particular Object Retrieval with Integral Max-Pooling of CNN Activations", ICLR 2016,
    without its whitening of each region; the whole map beside the regions is the code's of Radenovic et al. Masks are
    this toolkit's: a region without a position that counts adds nothing.

    Args:
        maps: float [N, H, W, C], any H and W.
        mask: bool [N, H, W], true where a position counts.

    Returns:
        float32 [N, C], not normalised; zeros where no position counts.
    """
    total = masking.unit_length(mac(maps, mask))
    maps, mask = masking.prepare(maps, mask)
    if mask is not None:
        maps = ops.where(mask, maps, LOWEST)
    for level in region_grid(*ops.shape(maps)[1:3]):
        largest = reduce_regions(maps, level, ops.max)
        if mask is not None:
            largest = ops.where(reduce_regions(mask, level, ops.any), largest, 0.0)
        total += ops.cast(level.counts, "float32") * ops.sum(masking.unit_length(largest), axis=(1, 2))
    return total


@keras.saving.register_keras_serializable(package="tfretrieval")
class RMAC(Pooling):
    """Regional maximum pooling of feature maps, [N, H, W, C] -> [N, C]; see `rmac`.

    Example:
        >>> RMAC()(np.ones((2, 7, 9, 4))).shape
        (2, 4)
    """

    needs_grid = True

    def pool(self, maps, mask):
        """Returns the sums over regions."""
        return rmac(maps, mask)
