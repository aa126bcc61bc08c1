"""What the pooling layers share."""

import keras

from tfretrieval.layers import masking


class Pooling(keras.layers.Layer):
    """From feature maps [N, H, W, C], or tokens [N, T, C], to one vector each, float32 [N, C] whatever the policy.

    A subclass says how in `pool(maps, mask)`. A mask, bool [N, H, W] or [N, T], is true at the positions that count;
    a row without any gives zeros.
    """

    needs_grid = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        """Returns the pooled vectors, float32 [N, C]: what follows is normalisation."""
        self._check(inputs)
        return self.pool(inputs, mask)

    def pool(self, maps, mask):
        """Returns the pooled vectors of maps, float32 [N, C]."""
        raise NotImplementedError

    def compute_mask(self, inputs, previous_mask=None):
        """Returns None: the result has no positions."""
        del inputs, previous_mask

    def compute_output_spec(self, inputs, mask=None):
        """Returns the output's shape and dtype."""
        del mask
        self._check(inputs)
        return keras.KerasTensor((inputs.shape[0], inputs.shape[-1]), dtype="float32")

    def _check(self, inputs):
        if self.needs_grid and len(masking.position_axes(inputs)) != 2:
            raise ValueError(
                f"{type(self).__name__} looks at neighbouring positions and was given tokens of shape "
                f"{tuple(inputs.shape)}; maps [N, H, W, C] are wanted: reshape the tokens to their grid."
            )
        masking.position_axes(inputs)
