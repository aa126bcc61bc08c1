"""Cross-dimensional weighting (CroW)."""

import keras
from keras import ops

from tfretrieval.layers import masking
from tfretrieval.layers.pooling import Pooling


def crow(maps, mask=None):
    """Sums activations, weighted by how strong their position and how rare their channel is.

    f_k = I_k sum_x s_x x_k, with s_x = (S_x / (sum_x S_x^2)^(1/2))^(1/2), S_x = sum_k x_k, and
    I_k = log(sum_h Q_h / Q_k), Q_k the share of positions where x_k > 0; I_k = 0 for a channel without any.

    Source: Kalantidis, Mellina, Osindero, "Cross-dimensional Weighting for Aggregated Deep Convolutional Features",
    ECCV workshops 2016, with its a = b = 2 and the logarithm of the authors' code, which has no additive constant. This
    toolkit's: S_x < 0, which activations after a ReLU never give, counts as 0; no gradient flows into I_k, a count.

    Args:
        maps: float [N, H, W, C] or [N, T, C], activations, expected non-negative.
        mask: bool [N, H, W] or [N, T], true where a position counts.

    Returns:
        float32 [N, C]; zeros where no position counts.
    """
    maps, mask = masking.prepare(maps, mask)
    axes = masking.position_axes(maps)
    return ops.sum(maps * _position_weights(maps, axes), axis=axes) * _channel_weights(maps, axes)


def _position_weights(maps, axes):
    """Returns s, [N, H, W, 1] or [N, T, 1]; masked positions are zeros in the maps, and so in s."""
    strength = ops.maximum(ops.sum(maps, axis=-1, keepdims=True), 0.0)
    # s does not depend on the maps' scale: relative to the strongest position no square overflows.
    strength = strength / ops.maximum(ops.stop_gradient(ops.max(strength, axis=axes, keepdims=True)), 1e-30)
    squares = ops.sum(ops.square(strength), axis=axes, keepdims=True)
    share = strength * ops.rsqrt(ops.maximum(squares, 1e-12))
    # The root has no finite slope at 0: its argument is replaced there, and so is the result.
    positive = share > 1e-12
    return ops.where(positive, ops.sqrt(ops.where(positive, share, 1.0)), 0.0)


def _channel_weights(maps, axes):
    """Returns I, [N, C]; a constant factor on Q, such as the number of positions, does not change it."""
    present = ops.sum(ops.cast(maps > 0, "float32"), axis=axes)
    total = ops.sum(present, axis=-1, keepdims=True)
    weights = ops.log(ops.maximum(total, 1.0) / ops.maximum(present, 1.0))
    return ops.stop_gradient(ops.where(present > 0, weights, 0.0))


@keras.saving.register_keras_serializable(package="tfretrieval")
class CroW(Pooling):
    """Cross-dimensionally weighted sum of feature maps or tokens, [N, H, W, C] or [N, T, C] -> [N, C]; see `crow`.

    Example:
        >>> CroW()(np.ones((2, 7, 7, 4))).shape
        (2, 4)
    """

    def pool(self, maps, mask):
        """Returns the weighted sums."""
        return crow(maps, mask)
