import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import AveragePrecision, NormSoftmax
from tfretrieval.training import large_batch

LABELS = np.arange(22) // 3
PHOTOS = np.random.default_rng(0).normal(size=(22, 10, 10, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    made = keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            layers.Conv2D(8, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(16),
            layers.UnitNormalization(),
        ]
    )
    made(PHOTOS, training=True)  # moving statistics that are not those of the start
    return made


@pytest.fixture(scope="module", params=[AveragePrecision, NormSoftmax])
def loss(request):
    made = request.param()
    if hasattr(made, "build"):
        made.build(instances=8, dimension=16, seed=0)
    return made


def values(variables):
    return [variable.value for variable in variables]


def plain(describe, loss, variables):
    with tf.GradientTape() as tape:
        value = loss(LABELS, describe(PHOTOS))
    return value, tape.gradient(value, variables)


def in_chunks(describe, loss, chunk, variables, owned, graph):
    run = tf.function(large_batch.gradients) if graph else large_batch.gradients
    return run(describe, lambda rows: loss(LABELS, rows), tf.constant(PHOTOS), chunk, variables, owned)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("chunk", [1, 5, 11, 22, 40])
def test_equals_the_plain_backward_pass(model, loss, chunk, graph):
    describe = lambda photos: model(photos, training=False)  # noqa: E731
    variables, owned = values(model.trainable_variables), values(getattr(loss, "trainable_variables", []))
    expected = plain(describe, loss, [*variables, *owned])
    value, gradients = in_chunks(describe, loss, chunk, variables, owned, graph)
    assert float(value) == pytest.approx(float(expected[0]), rel=1e-6)
    assert len(gradients) == len(variables) + len(owned)
    for found, wanted in zip(gradients, expected[1], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def test_with_batch_statistics_it_is_the_gradient_of_chunks_normalised_apart(model):
    loss, chunk = AveragePrecision(), 11
    variables = values(model.trainable_variables)
    before = [variable.numpy() for variable in model.variables]

    def apart(photos):
        return tf.concat([model(photos[start : start + chunk], training=True) for start in (0, chunk)], axis=0)

    expected = plain(apart, loss, variables)
    moved = model.layers[1].moving_mean.numpy()
    for variable, start in zip(model.variables, before, strict=True):
        variable.assign(start)
    value, gradients = in_chunks(lambda photos: model(photos, training=True), loss, chunk, variables, [], False)
    twice = model.layers[1].moving_mean.numpy()
    for variable, start in zip(model.variables, before, strict=True):
        variable.assign(start)
    assert float(value) == pytest.approx(float(expected[0]), rel=1e-5)
    for found, wanted in zip(gradients, expected[1], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * max(1e-3, np.abs(wanted).max()))
    assert np.abs(twice - moved).max() > 1e-4  # the moving statistics were moved twice


def test_holds_the_activations_of_one_chunk():
    seen = []

    def network(photos):
        seen.append(int(photos.shape[0]))
        return tf.reduce_mean(photos, axis=(1, 2))

    large_batch.gradients(network, tf.reduce_sum, tf.constant(PHOTOS), 8, [])
    assert seen == [8, 8, 6, 8, 8, 6]


@pytest.mark.parametrize(("chunk", "tolerance"), [(22, 1e-6), (5, 0.06)])  # bfloat16 has 8 bits for the sums of a chunk
def test_half_precision_descriptors_are_compared_in_float32(chunk, tolerance):
    kernel = tf.Variable(np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32))

    def network(photos):
        means = tf.cast(tf.reduce_mean(photos, axis=(1, 2)), tf.bfloat16)
        return tf.math.l2_normalize(tf.matmul(means, tf.cast(kernel, tf.bfloat16)), axis=1)

    def loss(rows):
        assert rows.dtype == tf.float32
        return AveragePrecision()(LABELS, rows)

    _, (found,) = large_batch.gradients(network, loss, tf.constant(PHOTOS), chunk, [kernel])
    _, (wanted,) = plain(network, AveragePrecision(), [kernel])
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, wanted, atol=tolerance * np.abs(wanted).max())


def test_what_nothing_depends_on_has_no_gradient():
    kernel, idle, owned = tf.Variable(tf.ones((3, 4))), tf.Variable(1.0), tf.Variable(2.0)
    network = lambda photos: tf.matmul(tf.reduce_mean(photos, axis=(1, 2)), kernel)  # noqa: E731
    _, found = large_batch.gradients(network, tf.reduce_sum, tf.constant(PHOTOS), 7, [kernel, idle], [owned])
    np.testing.assert_allclose(
        found[0], np.repeat(PHOTOS.mean((1, 2)).sum(0)[:, None], 4, axis=1), rtol=1e-4, atol=1e-5
    )
    assert found[1] == 0 and found[2] is None


def test_an_impossible_chunk_is_refused():
    with pytest.raises(ValueError, match="chunk=0 was given; 1 photo or more is wanted"):
        large_batch.gradients(tf.identity, tf.reduce_sum, tf.ones((2, 3)), 0, [])
