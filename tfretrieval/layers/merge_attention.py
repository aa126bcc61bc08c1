"""The ways to put feature maps and an attention map together."""

import keras
from keras import ops

MERGES = ("add", "residual_mul", "mul")


def merge(maps, attention, how: str):
    """Puts feature maps F and an attention map A of the same shape together, element by element.

    "mul" is F * A, "add" is F + A, "residual_mul" is F * (1 + A). AGeM multiplies inside the network and adds at its
    end, as a reader of the paper notes; "residual_mul" is the form of the Residual Attention Network, which it cites.

    Args:
        maps: float [N, H, W, C].
        attention: float [N, H, W, C].
        how: one of `MERGES`.

    Returns:
        [N, H, W, C], of the dtype of `maps`; computed in float32.
    """
    exact, attention = ops.cast(maps, "float32"), ops.cast(attention, "float32")
    merged = exact + attention if how == "add" else exact * (attention if how == "mul" else 1.0 + attention)
    return ops.cast(merged, maps.dtype)


@keras.saving.register_keras_serializable(package="tfretrieval")
class MergeAttention(keras.layers.Layer):
    """Puts feature maps and their attention together, two [N, H, W, C] -> [N, H, W, C]; see `merge`.

    Args:
        how: one of `MERGES`.
    """

    def __init__(self, how: str = "mul", **kwargs):
        super().__init__(**kwargs)
        if how not in MERGES:
            raise ValueError(f"attention is merged by {how!r}; one of {', '.join(MERGES)} is wanted.")
        self.how = how

    def call(self, maps, attention):
        """Returns the merged maps."""
        return merge(maps, attention, self.how)

    def compute_output_shape(self, maps_shape, attention_shape):
        """Returns [N, H, W, C].

        Raises:
            ValueError: the two shapes differ.
        """
        if any(None not in pair and pair[0] != pair[1] for pair in zip(maps_shape, attention_shape, strict=True)):
            raise ValueError(f"maps of {maps_shape} and attention of {attention_shape} were given; equal are wanted.")
        return tuple(maps_shape)

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), "how": self.how}
