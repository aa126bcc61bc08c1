"""Where a descriptor looks: what each position of the feature maps adds to the similarity of two photos."""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from tfretrieval import layers
from tfretrieval.errors import InputError
from tfretrieval.layers.gem import gem
from tfretrieval.layers.mac import mac
from tfretrieval.layers.multi_scale import resize
from tfretrieval.layers.regions import region_grid

# Rounding, and activations that a pooling raises to a floor, move the sum by less.
_TOLERANCE = 2e-3


@dataclasses.dataclass(frozen=True)
class Contributions:
    """What the positions of one photo's maps add to its similarity to another.

    Attributes:
        positions: float32 [h, w], over the photo; the sum is `similarity`. Negative where a position speaks against it.
        constant: what no position causes, the whitening's bias; it is in `positions`, the same at each.
        similarity: dot product of the two descriptors, in [-1, 1].
    """

    positions: np.ndarray
    constant: float
    similarity: float


def contributions(model: keras.Model, photo: np.ndarray, other: np.ndarray) -> Contributions:
    """Splits the similarity of two photos over the positions of the first one's feature maps.

    With the lengths that L2 divides by held fixed, all between maps and similarity is linear or, in the pooling,
    homogeneous of degree 1, that is f(t X) = t f(X). Such a function is the sum of its inputs times its slopes (Euler),
    so the share of position x is, with g the similarity's slope at the pooled vector f,

        c_x = sum_k x_k d(g . f)/dx_k;  for GeM, which is SPoC at p = 1:  c_x = sum_k g_k f_k x_k^p_k / sum_y y_k^p_k

    and the shares sum up to the similarity, but for rounding, exactly. Whitening passes g back through its matrix; what
    its bias adds belongs to no position and is spread evenly. Sums over regions (rmac, regional_gem) hold each region's
    length fixed too. Of several scales each adds the shares of its own maps, spread over the finest.

    Splitting the dot product of average- and max-pooled descriptors over positions is Stylianou, Souvenir, Pless,
    "Visualizing Deep Similarity Networks", WACV 2019; passing it through linear layers Zhu, Yang, Chen, "Visual
    Explanation for Deep Metric Learning", 2019. GeM, regions, power means over scales and the even spread of the bias
    are this toolkit's.

    A position's contribution is that of its features: they have seen as much of the photo as the backbone's receptive
    field, which is more than the cell that the position covers.

    Args:
        model: a network of `build_descriptor`, `add_scales` or `add_whitening`.
        photo: uint8 [H, W, 3].
        other: uint8 [H', W', 3]; `photo` itself shows what its descriptor is made of.

    Raises:
        InputError: a layer between the maps and the descriptor that cannot be split.
    """
    target = model(other[None], training=False)[0]
    found, positions, constant = _split(model, tf.convert_to_tensor(photo[None]), target)
    similarity = float(tf.tensordot(found, target, 1))
    if not abs(positions.sum() + constant - similarity) <= _TOLERANCE:
        raise InputError(
            f"the network's contributions sum up to {positions.sum() + constant:.4f} and the similarity is "
            f"{similarity:.4f}; a pooling that scales with its maps is wanted."
        )
    return Contributions((positions + constant / positions.size).astype(np.float32), constant, similarity)


def _split(model: keras.Model, photos: tf.Tensor, slope: tf.Tensor) -> tuple[tf.Tensor, np.ndarray, float]:
    """Splits the dot product of a photo's descriptor and a fixed vector.

    Args:
        model: the network.
        photos: [1, H, W, 3].
        slope: [D], the fixed vector.

    Returns:
        The photo's descriptor [D], the positions' shares [h, w], and what no position causes.
    """
    chain = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    first = next((at for at, layer in enumerate(chain) if isinstance(layer, (*_POOLINGS, layers.MultiScale))), None)
    if first is None:
        raise InputError(f"the network {model.name} has no pooling of this toolkit, from which shares could be told.")
    values = photos if isinstance(chain[first], layers.MultiScale) else _before(model, chain[first])(photos)
    vectors = [chain[first](values)]
    for layer in chain[first + 1 :]:
        vectors.append(layer(vectors[-1]))
    constant = 0.0
    for layer, vector in zip(reversed(chain[first + 1 :]), reversed(vectors[:-1]), strict=True):
        slope, added = _through(layer, vector[0], slope)
        constant += added
    split = _split_scales if isinstance(chain[first], layers.MultiScale) else _split_pooling
    positions, added = split(chain[first], values, slope)
    return vectors[-1][0], positions, constant + added


_POOLINGS = tuple(layers.POOLINGS.values())


def _before(model: keras.Model, pooling: keras.layers.Layer) -> keras.Model:
    """Returns the part of a network that makes the maps."""
    return keras.Model(model.input, pooling.input)


def _through(layer: keras.layers.Layer, vector: tf.Tensor, slope: tf.Tensor) -> tuple[tf.Tensor, float]:
    """Takes the slope at a layer's output to the one at its input [D], with what its bias adds."""
    if isinstance(layer, keras.layers.UnitNormalization):
        return slope / tf.maximum(tf.norm(vector), 1e-12), 0.0
    if isinstance(layer, keras.layers.Dense) and layer.activation is keras.activations.linear:
        added = float(tf.tensordot(layer.bias.value, slope, 1)) if layer.use_bias else 0.0
        return tf.linalg.matvec(layer.kernel.value, slope), added
    raise InputError(
        f"the network's layer {layer.name} ({type(layer).__name__}) stands between pooling and descriptor; only L2 and "
        "linear layers can be split."
    )


def _split_pooling(layer: keras.layers.Layer, maps: tf.Tensor, slope: tf.Tensor) -> tuple[np.ndarray, float]:
    """Splits slope . pooling(maps) over the positions of maps [1, h, w, C]."""
    maps = tf.cast(maps, tf.float32)
    # What the pooling would raise to its floor is raised here, where it is part of the sum.
    floors = [getattr(layer, name) for name in ("epsilon", "alpha") if hasattr(layer, name)]
    maps = tf.maximum(maps, max(floors)) if floors else maps
    with tf.GradientTape() as tape:
        tape.watch(maps)
        pooled = _sum_of_regions(layer, maps) if isinstance(layer, _REGIONAL) else layer(maps)
        value = tf.tensordot(pooled[0], slope, 1)
    return tf.reduce_sum(maps * tape.gradient(value, maps), axis=-1)[0].numpy().astype(np.float64), 0.0


_REGIONAL = (layers.RMAC, layers.RegionalGeM)


def _sum_of_regions(layer: keras.layers.Layer, maps: tf.Tensor) -> tf.Tensor:
    """Returns what R-MAC or regional GeM gives, [1, C], with the lengths of the regions' vectors held fixed."""

    def one(region):
        vector = mac(region) if isinstance(layer, layers.RMAC) else gem(region, layer.p.value, layer.epsilon)
        length = tf.stop_gradient(tf.maximum(tf.norm(vector), 1e-6))
        return vector / length

    total = one(maps)
    for level in region_grid(*map(int, maps.shape[1:3])):
        if level.counts:
            for rows in level.rows:
                for columns in level.columns:
                    total += one(maps[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    return total


def _split_scales(layer: layers.MultiScale, photos: tf.Tensor, slope: tf.Tensor) -> tuple[np.ndarray, float]:
    """Splits slope . power_mean(descriptors of all scales) over the positions of the finest scale's maps."""
    resized = [resize(photos, scale, layer.antialias) for scale in layer.scales]
    vectors = np.stack([layer.network(photo, training=False)[0].numpy() for photo in resized]).astype(np.float64)
    mean, slopes = _power_slopes(vectors, layer.power)
    slopes = slopes * slope.numpy() / max(np.linalg.norm(mean), 1e-12)
    parts = [
        _split(layer.network, photo, tf.constant(own, tf.float32))[1:]
        for photo, own in zip(resized, slopes, strict=True)
    ]
    height, width = np.max([positions.shape for positions, _ in parts], axis=0)
    return sum(spread(positions, height, width) for positions, _ in parts), sum(added for _, added in parts)


def _power_slopes(vectors: np.ndarray, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the power mean over the rows, not normalised, [D], and its slope at each entry, [S, D].

    m = (1/S sum_s v_s^q)^(1/q), dm/dv_s = (v_s / m)^(q - 1) / S; at an infinite power, the first of the largest has 1.
    """
    if power == 1:
        return vectors.mean(axis=0), np.full_like(vectors, 1 / len(vectors))
    if power == math.inf:
        return vectors.max(axis=0), np.arange(len(vectors))[:, None] == vectors.argmax(axis=0)
    vectors = np.maximum(vectors, 0.0)
    largest = np.maximum(vectors.max(axis=0), 1e-12)
    relative = np.maximum(vectors / largest, 1e-12)
    mean = (relative**power).mean(axis=0) ** (1 / power)
    return mean * largest, (relative / mean) ** (power - 1) / len(vectors)


def spread(positions: np.ndarray, height: int, width: int) -> np.ndarray:
    """Spreads shares over finer positions of the same area, by overlap; the sum stays.

    Args:
        positions: float [h, w].
        height: at least h.
        width: at least w.

    Returns:
        float [height, width].
    """
    return _overlaps(positions.shape[0], height) @ positions @ _overlaps(positions.shape[1], width).T


def _overlaps(coarse: int, fine: int) -> np.ndarray:
    """Returns the share of each of `coarse` equal parts of a side that lies in each of `fine` ones, [fine, coarse]."""
    starts, parts = np.arange(fine)[:, None] / fine, np.arange(coarse)[None, :] / coarse
    shared = np.minimum(starts + 1 / fine, parts + 1 / coarse) - np.maximum(starts, parts)
    return np.maximum(shared, 0.0) * coarse
