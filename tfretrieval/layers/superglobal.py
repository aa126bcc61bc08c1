"""The pooling of SuperGlobal: ReLUP, a generalised mean of each neighbourhood, and GeM."""

import keras
from keras import ops

from tfretrieval.layers import masking, sizes
from tfretrieval.layers.gem import GeM, gem

ALPHA, LOCAL_P, WINDOW = 0.014, 2.5, 5


def relup(maps, alpha: float = ALPHA):
    """Raises activations below alpha to alpha: max(x, alpha), in the maps' dtype.

    Source: Shao et al., "Global Features are All You Need for Image Retrieval and Reranking", ICCV 2023.
    """
    return ops.maximum(maps, alpha)


def local_gem(maps, mask=None, p: float = LOCAL_P, window: int = WINDOW, epsilon: float = 1e-6):
    """Averages each activation with the generalised mean of its neighbourhood.

    y = 0.5 x + 0.5 (mean over the window of max(x, epsilon)^p)^(1/p), at every position, with edges reflected (the
    edge itself once). Source: Shao et al., ICCV 2023 ("regional GeM", window 5, p = 2.5). This toolkit's: epsilon,
    which keeps gradients finite; masks; and maps of fewer than 3 positions a side, reflected as often as needed.

    Args:
        maps: float [N, H, W, C], activations, expected non-negative.
        mask: bool [N, H, W]; positions that do not count are left out of every mean.
        p: exponent, > 0.
        window: side of the neighbourhood in positions, odd.
        epsilon: smaller activations are raised to this before the power.

    Returns:
        float32 [N, H, W, C]; masked positions hold no meaningful values.
    """
    maps, mask = masking.prepare(maps, mask)
    raised = ops.maximum(maps, epsilon)
    largest = ops.stop_gradient(ops.max(raised, axis=(1, 2), keepdims=True))
    powers = ops.exp(p * ops.log(raised / largest))
    if mask is None:
        means = _window_means(powers, window)
    else:
        counted = ops.cast(mask, "float32")
        shares = ops.maximum(_window_means(counted, window), 0.5 / window**2)
        means = _window_means(ops.where(mask, powers, 0.0), window) / shares
    return 0.5 * maps + 0.5 * largest * ops.exp(ops.log(ops.maximum(means, 1e-30)) / p)


def _window_means(values, window: int):
    """Returns the means over the windows around every position, [N, H, W, C]."""
    for axis in (1, 2):
        values = ops.take(values, _reflected(ops.shape(values)[axis], window // 2), axis=axis)
    return ops.average_pool(values, window, strides=1, padding="valid", data_format="channels_last")


def _reflected(length, margin: int):
    """Returns the positions, int32 [length + 2 margin], of a side that is reflected at both ends."""
    numbers = sizes.numbers(length)
    period = numbers.maximum(2 * length - 2, 1)
    places = (numbers.arange(length + 2 * margin) - margin) % period
    return numbers.minimum(places, period - places)


@keras.saving.register_keras_serializable(package="tfretrieval")
class SuperGlobal(GeM):
    """ReLUP, the neighbourhoods' generalised means and GeM, [N, H, W, C] -> [N, C].

    See `relup`, `local_gem` and `gem`. Source: Shao et al., ICCV 2023: alpha 0.014, window 5 with p = 2.5, then
    p = 4.6 with epsilon 1e-8, none of them learnt. Its code has ReLUP inside the backbone, in all blocks but the last
    stage's; this layer, which takes any backbone as it is, has it on the last maps, and alpha = 0 leaves it out. The
    maximum over scales of the paper is `MultiScale` with an infinite power.

    Args:
        p: initial exponent of the last mean, > 0.
        trainable_p: whether p is learnt.
        alpha: smallest activation.

    Example:
        >>> SuperGlobal()(np.ones((2, 7, 7, 4))).shape
        (2, 4)
    """

    needs_grid = True

    def __init__(self, p: float = 4.6, trainable_p: bool = False, alpha: float = ALPHA, **kwargs):
        super().__init__(p, per_channel=False, trainable_p=trainable_p, epsilon=1e-8, **kwargs)
        self.alpha = alpha

    def pool(self, maps, mask):
        """Returns the generalised means of the smoothed maps."""
        smooth = local_gem(relup(ops.cast(maps, "float32"), self.alpha), mask)
        return gem(smooth, ops.convert_to_tensor(self.p), self.epsilon, mask)

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        config = {**super().get_config(), "alpha": self.alpha}
        return {name: value for name, value in config.items() if name not in ("per_channel", "epsilon")}
