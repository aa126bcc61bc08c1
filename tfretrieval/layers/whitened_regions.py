"""Pooling of regions with a linear layer for each region's vector."""

import keras
from keras import ops

from tfretrieval.layers import masking
from tfretrieval.layers.pooling import Pooling
from tfretrieval.layers.regions import reduce_regions, region_grid

KINDS = ("gem", "mac", "spoc")


def region_vectors(maps, kind: str, p=1.0, epsilon: float = 1e-6):
    """Pools the whole map and every region of `region_grid`.

    Args:
        maps: float [N, H, W, C].
        kind: one of `KINDS`.
        p: with "gem" the exponent, float [] or [C], > 0.
        epsilon: with "gem", smaller activations are raised to this before the power.

    Returns:
        List of pairs of float32 [N, R, Q, C], the vectors of R rows of Q regions, and of whether they count.
    """
    maps = ops.cast(maps, "float32")
    if kind == "gem":  # with logarithms of powers, of which none overflows or underflows
        maps = p * ops.log(ops.maximum(maps, epsilon))
    reduce = {"gem": _log_mean, "mac": ops.max, "spoc": ops.mean}[kind]
    found = [(reduce(reduce(maps, axis=1), axis=1)[:, None, None], True)]
    for level in region_grid(*ops.shape(maps)[1:3]):
        found.append((reduce_regions(maps, level, reduce), level.counts))
    return [(ops.exp(vectors / p), counts) for vectors, counts in found] if kind == "gem" else found


def _log_mean(logs, axis: int):
    """Returns the logarithm of the mean of numbers given by their logarithms."""
    return ops.logsumexp(logs, axis=axis) - ops.log(ops.cast(ops.shape(logs)[axis], "float32"))


@keras.saving.register_keras_serializable(package="tfretrieval")
class WhitenedRegions(Pooling):
    """Sums the whitened vectors of regions, [N, H, W, C] -> [N, C], not normalised.

    sum_r normalise(W normalise(f_r) + b), with f_r the pooled vector of the whole map and of each region of
    `region_grid`. Source: the "regional" networks of the code of Radenovic, Tolias, Chum (TPAMI 2018), whose regions
    are those of R-MAC (Tolias, Sicre, Jegou, ICLR 2016). `RegionalGeM` is the same without the linear layer. Positions
    cannot be masked.

    The weights of the exponent are named "p", as in `GeM`.

    Args:
        kind: pooling of each region, one of `KINDS`.
        p: with "gem", the initial exponent, > 0.
        per_channel: with "gem", one exponent for each channel instead of one shared.

    Example:
        >>> WhitenedRegions("mac")(np.ones((2, 7, 9, 4))).shape
        (2, 4)
    """

    needs_grid = True

    def __init__(self, kind: str = "gem", p: float = 3.0, per_channel: bool = False, **kwargs):
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"the pooling of regions is {kind!r}; one of {', '.join(KINDS)} is wanted.")
        if not p > 0:
            raise ValueError(f"WhitenedRegions's exponent p is {p}; more than 0 is wanted.")
        self.kind, self.initial_p, self.per_channel = kind, float(p), per_channel
        self.supports_masking = False

    def build(self, input_shape):
        """Makes the linear layer, float32 [C, C] and [C], at the identity, and with "gem" the exponent, [] or [C]."""
        channels, exact = input_shape[-1], {"dtype": "float32", "autocast": False}
        self.kernel = self.add_weight(name="kernel", shape=(channels, channels), initializer="identity", **exact)
        self.bias = self.add_weight(name="bias", shape=(channels,), initializer="zeros", **exact)
        if self.kind == "gem":
            shape, initial = (channels,) if self.per_channel else (), keras.initializers.Constant(self.initial_p)
            self.p = self.add_weight(name="p", shape=shape, initializer=initial, **exact)

    def pool(self, maps, mask):
        """Returns the sums over regions."""
        del mask
        p = ops.convert_to_tensor(self.p) if self.kind == "gem" else 1.0
        total = 0.0
        for vectors, counts in region_vectors(maps, self.kind, p):
            whitened = ops.matmul(masking.unit_length(vectors), self.kernel) + self.bias
            total += ops.cast(counts, "float32") * ops.sum(masking.unit_length(whitened), axis=(1, 2))
        return total

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        own = {"kind": self.kind, "p": self.initial_p, "per_channel": self.per_channel}
        return {**super().get_config(), **own}
