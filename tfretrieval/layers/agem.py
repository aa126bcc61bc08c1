"""The attention units of AGeM."""

import keras
from keras import ops


def _gate(features):
    """Returns a sigmoid in float32: in float16 it would be 1 from about 8 on, and pass no gradient."""
    return ops.sigmoid(ops.cast(features, "float32"))


class _AttentionUnit(keras.layers.Layer):
    """Convolutions one after the other, and a sigmoid: what both units are."""

    def __init__(self, filters: int, bias: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        if filters < 1:
            raise ValueError(f"an attention unit's filters are {filters}; 1 or more are wanted.")
        self.filters, self.bias = int(filters), float(bias)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def _convolution(self, filters: int, size: int, **kwargs) -> keras.layers.Conv2D:
        return keras.layers.Conv2D(
            filters, size, kernel_initializer="glorot_uniform", dtype=self.dtype_policy, **kwargs
        )

    def _last_convolution(self) -> keras.layers.Conv2D:
        return self._convolution(
            self.filters, 1, bias_initializer=keras.initializers.Constant(self.bias), name="attention"
        )

    def _build_all(self, steps: list, shape) -> list:
        for step in steps:
            step.build(shape)
            shape = step.compute_output_shape(shape)
        return steps

    def compute_output_spec(self, inputs, training=None):
        """Returns the output's shape and dtype."""
        del training
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype="float32")

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), "filters": self.filters, "bias": self.bias}


@keras.saving.register_keras_serializable(package="tfretrieval")
class DownsamplingAttention(_AttentionUnit):
    """AGeM's first unit (Att1): attention for the maps of one stage from those of the stage before it.

    For inputs of C channels: convolutions 3x3 with stride 2 to C channels, 3x3 to C/2 and 1x1 to C/2, each followed by
    BatchNorm and ReLU, then 1x1 to `filters` and a sigmoid; [N, H, W, C] -> float32 [N, h, w, filters] in (0, 1).

    Sizes, strides and activations are the paper's (Gu, Li, Xie, "Attention-based Generalized Mean Pooling",
    arXiv 1811.00202, by a reader's notes), which has 1024, 512, 512 and 2048 channels: C of ResNet-101's conv4 is 1024,
    so the paper's widths are this layer's there; for other C the same proportions are this toolkit's. Xavier's initial
    weights are inferred from what the paper cites; BatchNorm has PyTorch's momentum and epsilon, the paper's framework.

    Args:
        filters: channels of the attention.
        padding: of the strided convolution, ((top, bottom), (left, right)) or "same": that of the stage which the
            attention is for, whose sizes and places it then has. The default is PyTorch's, sizes half and rounded up.
        bias: initial bias before the sigmoid; other than 0 it is this toolkit's.
    """

    def __init__(self, filters: int, padding=((1, 1), (1, 1)), bias: float = 0.0, **kwargs):
        super().__init__(filters, bias, **kwargs)
        self.padding = padding if padding == "same" else tuple(tuple(side) for side in padding)

    def build(self, input_shape):
        """Makes the four convolutions and three normalisations."""
        channels = input_shape[-1]
        halved = max(1, channels // 2)
        same = self.padding == "same"
        steps = [] if same else [keras.layers.ZeroPadding2D(self.padding, dtype=self.dtype_policy)]
        widths = ((channels, 3, 2, self.padding if same else "valid"), (halved, 3, 1, "same"), (halved, 1, 1, "same"))
        for number, (filters, size, stride, padding) in enumerate(widths, 1):
            steps += [
                self._convolution(
                    filters, size, strides=stride, padding=padding, use_bias=False, name=f"convolution_{number}"
                ),
                keras.layers.BatchNormalization(
                    momentum=0.9, epsilon=1e-5, dtype=self.dtype_policy, name=f"normalization_{number}"
                ),
                keras.layers.ReLU(dtype=self.dtype_policy),
            ]
        self.steps = self._build_all([*steps, self._last_convolution()], input_shape)

    def call(self, inputs, training=None):
        """Returns the attention, float32 [N, h, w, filters], whatever the policy."""
        for step in self.steps:
            normalises = isinstance(step, keras.layers.BatchNormalization)
            inputs = step(inputs, training=training) if normalises else step(inputs)
        return _gate(inputs)

    def compute_output_shape(self, input_shape):
        """Returns [N, h, w, filters]."""
        count, *sides, _ = input_shape
        pads = ((1, 1), (1, 1)) if self.padding == "same" else self.padding  # "same" halves and rounds up as well
        halved = [side and (side + sum(pad) - 3) // 2 + 1 for side, pad in zip(sides, pads, strict=True)]
        return (count, *halved, self.filters)

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), "padding": self.padding}


@keras.saving.register_keras_serializable(package="tfretrieval")
class PointwiseAttention(_AttentionUnit):
    """AGeM's second and third units (Att2_1, Att2_2): one 1x1 convolution and a sigmoid.

    [N, H, W, C] -> float32 [N, H, W, filters] in (0, 1). In the paper `filters` is C, which ResNet's last stages share
    (2048, inferred); elsewhere it is the number of channels that the attention is put together with.

    Args:
        filters: channels of the attention.
        bias: initial bias before the sigmoid; other than 0 it is this toolkit's.
    """

    def build(self, input_shape):
        """Makes the convolution."""
        (self.convolution,) = self._build_all([self._last_convolution()], input_shape)

    def call(self, inputs):
        """Returns the attention, float32 [N, H, W, filters], whatever the policy."""
        return _gate(self.convolution(inputs))

    def compute_output_shape(self, input_shape):
        """Returns [N, H, W, filters]."""
        return (*input_shape[:-1], self.filters)
