"""A least size for photos, so that a backbone's strides leave at least one position."""

import keras
from keras import ops

from tfretrieval.layers import sizes

SIDE = 32


def repeat_edges(photos, side: int = SIDE):
    """Repeats the last row and column of photos until both sides have `side` pixels; larger photos stay as they are.

    Below a backbone's stride its maps would be empty, and TensorFlow's depthwise convolution gives undefined values
    for some of them instead of an error.

    Args:
        photos: [N, H, W, C].
        side: pixels.

    Returns:
        [N, max(H, side), max(W, side), C].
    """
    for axis in (1, 2):
        length = ops.shape(photos)[axis]
        numbers = sizes.numbers(length)
        places = numbers.minimum(numbers.arange(numbers.maximum(length, side)), length - 1)
        photos = ops.take(photos, places, axis=axis)
    return photos


@keras.saving.register_keras_serializable(package="tfretrieval")
class MinimumSize(keras.layers.Layer):
    """Enlarges small photos by repeating their edges, [N, H, W, C]; see `repeat_edges`.

    Args:
        side: least height and width in pixels.
    """

    def __init__(self, side: int = SIDE, **kwargs):
        super().__init__(**kwargs)
        self.side = side

    def call(self, inputs):
        """Returns the photos, at least `side` pixels high and wide."""
        height, width = ops.shape(inputs)[1:3]
        if isinstance(height, int) and isinstance(width, int):  # known sizes need no branch in the graph
            return inputs if min(height, width) >= self.side else repeat_edges(inputs, self.side)
        large = ops.logical_and(ops.convert_to_tensor(height) >= self.side, ops.convert_to_tensor(width) >= self.side)
        return ops.cond(large, lambda: inputs, lambda: repeat_edges(inputs, self.side))

    def compute_output_spec(self, inputs):
        """Returns the output's shape; height and width depend on the input's."""
        return keras.KerasTensor((inputs.shape[0], None, None, inputs.shape[3]), dtype=self.compute_dtype)

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), "side": self.side}
