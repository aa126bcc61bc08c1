"""Positions of a vision transformer at any grid: resized tables of embeddings, and rotary angles."""

import math

from keras import ops


def _cubic(distances, a: float):
    """Returns Keys' cubic kernel (IEEE ASSP 1981) with parameter a at distances >= 0, zero from 2 on."""
    near = ((a + 2.0) * distances - (a + 3.0)) * distances**2 + 1.0
    far = ((a * distances - 5.0 * a) * distances + 8.0 * a) * distances - 4.0 * a
    return ops.where(distances <= 1.0, near, ops.where(distances < 2.0, far, 0.0))


def cubic_weights(length: int, resized, antialias: bool = False):
    """Weights of a cubic resize along one side, as PyTorch's `interpolate(mode="bicubic", align_corners=False)`.

    Plain: four taps of Keys' kernel with a = -0.75, the edge repeated outside. With antialias: a = -0.5, the kernel as
    wide as the reduction asks for, taps outside left out and the rest scaled to sum 1.

    Args:
        length: positions before.
        resized: positions after; an int or, while a graph is traced, an int tensor.
        antialias: whether reductions average over all positions they merge.

    Returns:
        float32 [resized, length], rows of sum 1.
    """
    step = length / ops.cast(resized, "float32")
    centres = (ops.cast(ops.arange(resized), "float32") + 0.5) * step - 0.5
    if antialias:
        distances = ops.abs(ops.arange(length, dtype="float32")[None, :] - centres[:, None])
        weights = _cubic(distances / ops.maximum(step, 1.0), a=-0.5)
        return weights / ops.sum(weights, axis=1, keepdims=True)
    margin = 2
    places = ops.arange(-margin, length + margin, dtype="float32")
    weights = _cubic(ops.abs(places[None, :] - centres[:, None]), a=-0.75)
    inside = ops.clip(ops.arange(-margin, length + margin), 0, length - 1)
    return ops.matmul(weights, ops.one_hot(inside, length, dtype="float32"))


def resize_positions(positions, height, width, antialias: bool = False):
    """Resizes a grid of position embeddings; see `cubic_weights`. At its own size it is left as it is.

    Args:
        positions: float [h, w, C].
        height: rows wanted.
        width: columns wanted.
        antialias: see `cubic_weights`.

    Returns:
        float32 [height, width, C].
    """
    rows = cubic_weights(positions.shape[0], height, antialias)
    columns = cubic_weights(positions.shape[1], width, antialias)
    return ops.einsum("yh,hwc,xw->yxc", rows, ops.cast(positions, "float32"), columns)


def rotary_angles(height, width, dimension: int, theta: float):
    """Angles of two-dimensional rotary positions, as DINOv3 has them (Simeoni et al., 2025).

    Patch centres run from -1 to 1 on both axes, whatever the grid; each is multiplied by 2 pi / theta^(4 i / d) for
    i = 0 .. d/4 - 1; rows first, then columns, and both once more for the other half of the features.

    Args:
        height: rows of the grid.
        width: columns of the grid.
        dimension: features of an attention head, a multiple of 4.
        theta: base of the periods.

    Returns:
        float32 [height * width, dimension].
    """
    frequencies = 2.0 * math.pi / theta ** (ops.arange(dimension // 4, dtype="float32") * (4.0 / dimension))

    def centres(length):
        return (2.0 * ops.cast(ops.arange(length), "float32") + 1.0) / ops.cast(length, "float32") - 1.0

    rows = ops.broadcast_to((centres(height)[:, None] * frequencies)[:, None], (height, width, dimension // 4))
    columns = ops.broadcast_to((centres(width)[:, None] * frequencies)[None], (height, width, dimension // 4))
    half = ops.concatenate([rows, columns], axis=-1)
    return ops.reshape(ops.concatenate([half, half], axis=-1), (height * width, dimension))
