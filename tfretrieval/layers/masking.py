"""Positions of feature maps, and masks that say which of them count; shared by the poolings."""

from keras import ops


def position_axes(maps) -> tuple[int, ...]:
    """Returns the axes over which a pooling runs: (1, 2) of [N, H, W, C], or (1,) of tokens [N, T, C].

    Raises:
        ValueError: the tensor has neither of the two ranks.
    """
    rank = len(maps.shape)
    if rank not in (3, 4):
        raise ValueError(
            f"a pooling was given a tensor of shape {tuple(maps.shape)}; maps [N, H, W, C] or tokens [N, T, C] are "
            "wanted."
        )
    return tuple(range(1, rank - 1))


def prepare(maps, mask=None):
    """Casts maps to float32, sets masked positions to 0, and gives the mask a channel axis.

    What stands at a masked position, not-a-numbers included, reaches neither values nor gradients.

    Args:
        maps: float [N, H, W, C] or [N, T, C].
        mask: bool [N, H, W] or [N, T], true where a position counts; None when all do.

    Returns:
        The maps, float32, and the mask, bool [N, H, W, 1] or [N, T, 1], or None.

    Raises:
        ValueError: the maps have another rank, or the mask does not belong to them.
    """
    axes = position_axes(maps)
    maps = ops.cast(maps, "float32")
    if mask is None:
        return maps, None
    sides = [(mask.shape[axis], maps.shape[axis]) for axis in (0, *axes) if len(mask.shape) == len(axes) + 1]
    if not sides or any(None not in pair and pair[0] != pair[1] for pair in sides):
        raise ValueError(
            f"the mask has the shape {tuple(mask.shape)} and the maps have {tuple(maps.shape)}; a mask with the maps' "
            "shape less its last axis is wanted."
        )
    mask = ops.expand_dims(ops.cast(mask, "bool"), -1)
    return ops.where(mask, maps, 0.0), mask


def mean(values, mask):
    """Averages over the positions that count.

    Args:
        values: float32 [N, H, W, C] or [N, T, C].
        mask: what `prepare` returned for it.

    Returns:
        float32 [N, C]; zeros where no position counts.
    """
    axes = position_axes(values)
    if mask is None:
        return ops.mean(values, axis=axes)
    counted = ops.sum(ops.cast(mask, "float32"), axis=axes)
    return ops.sum(ops.where(mask, values, 0.0), axis=axes) / ops.maximum(counted, 1.0)


def zero_empty(pooled, mask):
    """Replaces the rows of pooled vectors [N, C] for which no position counts by zeros, which get no gradient."""
    return pooled if mask is None else ops.where(ops.any(mask, axis=position_axes(mask)), pooled, 0.0)


def unit_length(vectors, epsilon: float = 1e-6):
    """Divides vectors, float32 [..., C], by max(length, epsilon); zeros stay zeros and have a finite gradient.

    `keras.ops.normalize` gives the same values and not-a-number as the gradient of a zero vector.
    """
    squares = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(squares, epsilon**2))
