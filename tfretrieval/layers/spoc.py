"""Average pooling."""

import keras

from tfretrieval.layers import masking
from tfretrieval.layers.pooling import Pooling


def spoc(maps, mask=None):
    """Averages each channel over the positions: f_k = mean_x x_k.

    Source: Babenko, Lempitsky, "Aggregating Deep Convolutional Features for Image Retrieval", ICCV 2015, without its
    centre prior, as the GeM paper and its code have it.

    Args:
        maps: float [N, H, W, C] or [N, T, C].
        mask: bool [N, H, W] or [N, T], true where a position counts.

    Returns:
        float32 [N, C]; zeros where no position counts.
    """
    return masking.mean(*masking.prepare(maps, mask))


@keras.saving.register_keras_serializable(package="tfretrieval")
class SPoC(Pooling):
    """Average pooling of feature maps or tokens, [N, H, W, C] or [N, T, C] -> [N, C]; see `spoc`.

    Example:
        >>> SPoC()(np.ones((2, 7, 7, 4))).shape
        (2, 4)
    """

    def pool(self, maps, mask):
        """Returns the averages."""
        return spoc(maps, mask)
