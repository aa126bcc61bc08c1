"""Maximum pooling."""

import keras
from keras import ops

from tfretrieval.layers import masking
from tfretrieval.layers.pooling import Pooling

# Below any activation, and finite: differences with an infinity are not numbers.
LOWEST = -3e38


def mac(maps, mask=None):
    """Takes each channel's largest activation: f_k = max_x x_k.

    Source: Tolias, Sicre, Jegou, "Particular Object Retrieval with Integral Max-Pooling of CNN Activations", ICLR 2016.

    Args:
        maps: float [N, H, W, C] or [N, T, C].
        mask: bool [N, H, W] or [N, T], true where a position counts.

    Returns:
        float32 [N, C]; zeros where no position counts.
    """
    maps, mask = masking.prepare(maps, mask)
    if mask is not None:
        maps = ops.where(mask, maps, LOWEST)
    return masking.zero_empty(ops.max(maps, axis=masking.position_axes(maps)), mask)


@keras.saving.register_keras_serializable(package="tfretrieval")
class MAC(Pooling):
    """Maximum pooling of feature maps or tokens, [N, H, W, C] or [N, T, C] -> [N, C]; see `mac`.

    Example:
        >>> MAC()(np.ones((2, 7, 7, 4))).shape
        (2, 4)
    """

    def pool(self, maps, mask):
        """Returns the maxima."""
        return mac(maps, mask)
