"""Second-order attention: every position of feature maps is re-weighted by all others."""

import keras
from keras import ops


def attention_scores(queries, keys):
    """Attention of every position to every other: softmax over positions j of <q_i, k_j> / sqrt(M).

    Args:
        queries: float [N, H, W, M].
        keys: float [N, H, W, M].

    Returns:
        float32 [N, HW, HW], positions row by row, each row of sum 1.
    """
    queries, keys = (_positions(ops.cast(maps, "float32")) for maps in (queries, keys))
    # The factor is applied before the product: sums of 1,000 products of ReLU outputs grow large.
    queries = queries * queries.shape[-1] ** -0.5
    return ops.softmax(ops.matmul(queries, ops.transpose(keys, (0, 2, 1))), axis=-1)


def attend(scores, values):
    """Returns the values summed with an attention's weights.

    Args:
        scores: float32 [N, HW, HW].
        values: float [N, H, W, M].

    Returns:
        float32 [N, H, W, M].
    """
    values = ops.cast(values, "float32")
    return ops.reshape(ops.matmul(scores, _positions(values)), ops.shape(values))


def _positions(maps):
    """Returns [N, H, W, M] as [N, HW, M]."""
    count, height, width, channels = ops.shape(maps)
    return ops.reshape(maps, (count, height * width, channels))


@keras.saving.register_keras_serializable(package="tfretrieval")
class SecondOrderAttention(keras.layers.Layer):
    """The second-order attention block of SOLAR, [N, H, W, C] -> [N, H, W, C].

    out = x + v(softmax(f(x) g(x)^T / sqrt(M)) h(x)), with M = C / reduction channels; f and g are 1x1 convolutions with
    BatchNorm and ReLU, h and v 1x1 convolutions. v begins at zero, so the block begins as the identity; f, g and h
    begin with He's weights. Source: Ng, Balntas, Tian, Mikolajczyk, "SOLAR: Second-Order Loss and Attention for Image
    Retrieval", ECCV 2020, and its code, which calls them f, g, h and v as here; BatchNorm has PyTorch's momentum and
    epsilon. Its scale parameter `gamma`, which it never reads, is left out.

    The scores take 4 (HW)^2 bytes for each photo: 4 MB for a photo of 1024 x 1024 pixels at stride 32, 67 MB at 16.

    Args:
        reduction: C is divided by this in f, g and h; SOLAR's is 4 after conv4 and 2 after conv5.

    Example:
        >>> SecondOrderAttention(reduction=2)(np.ones((2, 7, 5, 8))).shape
        (2, 7, 5, 8)
    """

    def __init__(self, reduction: int = 2, **kwargs):
        super().__init__(**kwargs)
        if reduction < 1:
            raise ValueError(f"second-order attention's reduction is {reduction}; 1 or more is wanted.")
        self.reduction = int(reduction)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        """Makes the four convolutions and two normalisations."""
        channels = input_shape[-1]
        middle = max(1, channels // self.reduction)
        for name, filters, initializer in (
            ("f", middle, "he_normal"),
            ("g", middle, "he_normal"),
            ("h", middle, "he_normal"),
            ("v", channels, "zeros"),
        ):
            layer = keras.layers.Conv2D(filters, 1, kernel_initializer=initializer, dtype=self.dtype_policy, name=name)
            layer.build((*input_shape[:-1], middle if name == "v" else channels))
            setattr(self, name, layer)
        for name in ("f_normalization", "g_normalization"):
            layer = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=self.dtype_policy, name=name)
            layer.build((*input_shape[:-1], middle))
            setattr(self, name, layer)

    def scores(self, inputs, training=None):
        """Returns what each position takes from each other, float32 [N, HW, HW]; see `attention_scores`."""
        queries = ops.relu(self.f_normalization(self.f(inputs), training=training))
        keys = ops.relu(self.g_normalization(self.g(inputs), training=training))
        return attention_scores(queries, keys)

    def call(self, inputs, training=None):
        """Returns the attended maps, [N, H, W, C]."""
        return inputs + self.v(attend(self.scores(inputs, training), self.h(inputs)))

    def compute_output_shape(self, input_shape):
        """Returns [N, H, W, C]."""
        return tuple(input_shape)

    def get_config(self):
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), "reduction": self.reduction}
