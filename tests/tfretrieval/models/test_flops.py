import keras
import pytest
import tensorflow as tf
from keras import ops

from tfretrieval.models.flops import Cost, costs


def cost_of(layer, shape):
    layer.build(shape)
    (cost,) = costs(lambda x: [layer(x)], shape, layer.variables)
    return cost


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        # Output entries x kernel height x kernel width x input channels, two operations each.
        (keras.layers.Conv2D(5, (3, 2)), (2, 8, 9, 4), Cost((2, 6, 8, 5), 2 * (2 * 6 * 8 * 5) * 3 * 2 * 4, 125)),
        (
            keras.layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False),
            (1, 7, 7, 2),
            Cost((1, 4, 4, 6), 2 * (4 * 4 * 6) * 9 * 2, 108),
        ),
        (keras.layers.Conv2D(6, 3, groups=2), (1, 5, 5, 4), Cost((1, 3, 3, 6), 2 * (3 * 3 * 6) * 9 * 2, 114)),
        (
            keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
            (1, 6, 4, 3),
            Cost((1, 6, 4, 6), 2 * (6 * 4 * 6) * 9, 60),
        ),
        (keras.layers.Dense(7), (3, 11), Cost((3, 7), 2 * 3 * 7 * 11, 84)),
        (keras.layers.Dense(7, use_bias=False), (3, 4, 11), Cost((3, 4, 7), 2 * 12 * 7 * 11, 77)),
        (keras.layers.BatchNormalization(), (1, 4, 4, 3), Cost((1, 4, 4, 3), 0, 12)),
        # Projections of q, k, v and the output, then Q K^T and its product with V: 6 tokens, 2 heads of 4.
        (
            keras.layers.MultiHeadAttention(2, 4, use_bias=False),
            (1, 6, 8),
            Cost((1, 6, 8), 4 * (2 * 6 * 8 * 8) + 2 * (2 * 2 * 6 * 6 * 4), 256),
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_layers_by_hand(layer, shape, expected):
    if isinstance(layer, keras.layers.MultiHeadAttention):
        layer.build(shape, shape)
        (cost,) = costs(lambda x: [layer(x, x)], shape, layer.variables)
    else:
        cost = cost_of(layer, shape)
    assert cost == expected


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (lambda x: x @ ops.transpose(x, (0, 2, 1)), 2 * 2 * 3 * 3 * 5),
        (lambda x: tf.linalg.matmul(x, x, adjoint_a=True), 2 * 2 * 5 * 5 * 3),
        (lambda x: tf.linalg.matmul(x[0], x[0], transpose_a=True), 2 * 5 * 5 * 3),
        (lambda x: tf.einsum("ntc,cd->ntd", x, tf.ones([5, 4])), 2 * 2 * 3 * 5 * 4),
        (lambda x: tf.raw_ops.Einsum(inputs=[x, x], equation="...tc,...uc->...tu"), 2 * 2 * 3 * 3 * 5),
        (lambda x: tf.raw_ops.Einsum(inputs=[x], equation="ntc->nct"), 0),
        (lambda x: tf.nn.relu(x) + 1, 0),
    ],
)
def test_products_by_hand(function, flops):
    assert costs(lambda x: [function(x)], (2, 3, 5))[0].flops == flops


def test_an_output_costs_what_the_ones_before_it_did_not():
    first, second = keras.layers.Dense(4), keras.layers.Dense(6)

    def both(x):
        hidden = first(x)
        return [hidden, second(hidden), first(hidden @ ops.ones((4, 3)))]

    first.build((1, 3))
    second.build((1, 4))
    found = costs(both, (1, 3), [*first.variables, *second.variables])
    assert found == [Cost((1, 4), 24, 16), Cost((1, 6), 48, 30), Cost((1, 4), 24 + 24, 0)]


def test_a_whole_network_equals_tensorflows_profiler():
    model = keras.applications.MobileNetV2(include_top=True, weights=None, alpha=0.35, input_shape=(96, 96, 3))
    (cost,) = costs(lambda x: [model(x, training=False)], (1, 96, 96, 3), model.variables)
    forward = tf.function(lambda x: model(x, training=False))
    graph = forward.get_concrete_function(tf.TensorSpec([1, 96, 96, 3])).graph
    options = (
        tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
        .with_accounted_types(["Conv2D", "DepthwiseConv2dNative", "MatMul"])
        .with_empty_output()
        .build()
    )
    counted = tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    assert cost.flops == counted > 1e7
    assert cost.parameters == model.count_params()
    assert cost.shape == (1, 1000)
