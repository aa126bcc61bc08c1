import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

from export import network_graph
from export.network_graph import NetworkGraph
from export.optimise import optimise
from tfretrieval.layers import GeM, InputScaling


def drawn(model, seed=0):
    """Gives BatchNorm and biases values that would show if they were lost; Keras begins them with 0 and 1."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif len(weight.shape) == 1 and weight.shape[0] > 1:
            weight.assign(random.normal(0, 0.3, weight.shape))
    return model


def network():
    """Convolutions with and without bias, a depthwise and a dense one, each before a BatchNorm."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    pixels = keras.Input((None, None, 3))
    maps = layers.Conv2D(8, 3, 2, padding="same", use_bias=False)(InputScaling("torch")(pixels))
    maps = layers.ReLU()(layers.BatchNormalization()(maps))
    maps = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, use_bias=False)(maps)
    maps = layers.ReLU()(layers.BatchNormalization()(maps))
    branch = layers.BatchNormalization()(layers.Conv2D(12, 3, padding="same")(maps))
    maps = layers.ReLU()(layers.Add()([branch, layers.Conv2D(12, 1)(maps)]))
    vectors = layers.BatchNormalization()(layers.Dense(10)(GeM()(maps)))
    return drawn(keras.Model(pixels, layers.UnitNormalization(dtype="float32")(vectors)))


def photos(seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, size, np.uint8) for size in ((1, 40, 30, 3), (3, 21, 64, 3), (1, 5, 7, 3))]


def run(graph, images):
    """Calls a graph with its weights, in the order in which they are fed."""
    weights = [tf.constant(weight) for weight in graph.weights.values()]
    return graph.function()(tf.constant(images), *weights, *(each.handle for each in graph.handles.values())).numpy()


def count_ops(graph):
    return collections.Counter(node.op for node in graph.definition.node)


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def expected(model):
    return [model(images, training=False).numpy() for images in photos()]


@pytest.fixture(params=[0, 100, 1 << 14], ids=["all apart", "some", "all in the graph"])
def constant_elements(request, monkeypatch):
    """How large weights of these small networks may be to be constants of the graph."""
    monkeypatch.setattr(network_graph, "CONSTANT_ELEMENTS", request.param)
    return request.param


def test_a_frozen_graph_computes_what_the_network_does(model, expected, constant_elements):
    graph = NetworkGraph.of(model)
    sizes = [int(np.prod(weight.shape)) for weight in model.weights]
    assert graph.dimension == 10 and not graph.handles
    assert len(graph.weights) == sum(size > constant_elements for size in sizes)
    assert count_ops(graph)["ReadVariableOp"] == 0
    for images, wanted in zip(photos(), expected, strict=True):
        np.testing.assert_allclose(run(graph, images), wanted, atol=1e-6)


def test_an_optimised_graph_computes_the_same_without_batch_norm(model, expected, constant_elements):
    before, after = NetworkGraph.of(model), optimise(NetworkGraph.of(model))
    for images, wanted in zip(photos(), expected, strict=True):
        np.testing.assert_allclose(run(after, images), wanted, atol=2e-6)
    if constant_elements:  # else BatchNorm's own values are not known to the optimiser
        assert len(after.definition.node) < 0.7 * len(before.definition.node)
        convolutions = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
        nodes = {node.name: node for node in after.definition.node}
        for node in nodes.values():
            if node.op == "Mul":
                assert all(nodes[name.split(":")[0]].op not in convolutions for name in node.input), node.name


def test_a_scale_that_others_need_apart_is_not_folded(monkeypatch):
    """The convolution's result is used before the scaling too."""
    monkeypatch.setattr(network_graph, "CONSTANT_ELEMENTS", 30)
    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(10, 3, use_bias=False)(pixels)
    both = keras.layers.Concatenate()([maps, keras.layers.BatchNormalization()(maps)])
    shared = drawn(keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(both)))
    graph = optimise(NetworkGraph.of(shared))
    assert len(graph.weights) == 1
    for images in photos():
        np.testing.assert_allclose(run(graph, images), shared(images, training=False), rtol=1e-4, atol=1e-4)


def test_a_weight_of_two_convolutions_is_not_folded_into_either(monkeypatch):
    monkeypatch.setattr(network_graph, "CONSTANT_ELEMENTS", 30)
    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    once = keras.layers.Conv2D(10, 3, padding="same", use_bias=False)
    maps = keras.layers.BatchNormalization()(once(pixels))
    halved = once(keras.layers.AveragePooling2D(2)(pixels))
    joined = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling2D()(each) for each in (maps, halved)])
    shared = drawn(keras.Model(pixels, joined))
    graph = optimise(NetworkGraph.of(shared))
    for images in photos():
        np.testing.assert_allclose(run(graph, images), shared(images, training=False), rtol=1e-4, atol=1e-4)


def test_a_convolution_that_is_the_output_keeps_its_weights(monkeypatch):
    monkeypatch.setattr(network_graph, "CONSTANT_ELEMENTS", 0)
    pixels = keras.Input((None, None, 3))
    plain = keras.Model(pixels, keras.layers.Dense(4, use_bias=False)(keras.layers.GlobalMaxPooling2D()(pixels)))
    graph = optimise(NetworkGraph.of(plain))
    (weight,) = graph.weights.values()
    np.testing.assert_array_equal(weight, plain.weights[0])


def test_variables_read_inside_a_branch_stay_variables(monkeypatch):
    """Such reads cannot be frozen; the graph takes the variable itself."""

    class Either(keras.layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(3, 5), initializer="glorot_uniform")

        def call(self, pooled):
            wide = tf.reduce_max(pooled) > 10.0
            return tf.cond(wide, lambda: pooled @ self.kernel, lambda: pooled @ (self.kernel * 2))

    monkeypatch.setattr(network_graph, "CONSTANT_ELEMENTS", 0)
    pixels = keras.Input((None, None, 3))
    branching = keras.Model(pixels, Either()(keras.layers.GlobalMaxPooling2D()(pixels)))
    graph = optimise(NetworkGraph.of(branching))
    assert list(graph.handles) and not graph.weights
    for images in (np.full((1, 4, 4, 3), 3, np.uint8), *photos()):
        np.testing.assert_allclose(run(graph, images), branching(images, training=False), rtol=1e-6)


def test_two_graphs_with_functions_of_one_name_live_side_by_side(model):
    graphs = [NetworkGraph.of(model), optimise(NetworkGraph.of(model)), optimise(NetworkGraph.of(model))]
    first = [run(graph, photos()[0]) for graph in graphs]
    np.testing.assert_allclose(first[0], first[1], atol=2e-6)
    np.testing.assert_array_equal(first[1], first[2])
    assert graphs[1].definition.SerializeToString(deterministic=True) == graphs[2].definition.SerializeToString(
        deterministic=True
    )


def test_bfloat16_weights_are_stored_so_and_the_result_is_float32(model, expected, monkeypatch):
    monkeypatch.setattr(network_graph, "CONSTANT_ELEMENTS", 64)
    graph = optimise(NetworkGraph.of(model), bfloat16=True)
    assert graph.holds(tf.bfloat16) and not NetworkGraph.of(model).holds(tf.bfloat16)
    kinds = {weight.dtype.name for weight in graph.weights.values() if weight.ndim == 4}
    assert kinds == {"bfloat16"}
    found = run(graph, photos()[0])
    assert found.dtype == np.float32
    cosines = (found * expected[0]).sum(axis=1)
    assert cosines.min() > 0.999 and np.abs(found - expected[0]).max() > 1e-5  # it does compute in bfloat16
