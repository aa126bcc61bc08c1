import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import BatchContrastive, DistanceContrastive, TupleContrastive, pairs
from tfretrieval.losses.contrastive import MARGIN, MARGINS, batch_contrastive, tuple_contrastive

from .checks import assert_is_the_loop


def random_units(*shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def distance(a, b):
    return float(np.sqrt(np.sum((a.astype(np.float64) - b.astype(np.float64)) ** 2)))


def tuple_loop(tuples, margin):
    losses = []
    for query, positive, *negatives in tuples:
        loss = 0.5 * distance(query, positive) ** 2
        for negative in negatives:
            loss += 0.5 * max(0.0, margin - distance(query, negative)) ** 2
        losses.append(loss)
    return losses


def batch_loop(rows, labels, margin):
    """Mean over matching pairs plus mean over the non-matching pairs nearer than the margin, ordered pairs."""
    pulled, pushed = [], []
    for i in range(len(rows)):
        for j in range(len(rows)):
            d = distance(rows[i], rows[j])
            if i != j and labels[i] == labels[j]:
                pulled.append(d**2 / 2)
            if labels[i] != labels[j] and d < margin:
                pushed.append((margin - d) ** 2 / 2)
    return sum(pulled) / max(1, len(pulled)) + sum(pushed) / max(1, len(pushed))


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("margin", [0.7, MARGIN, 1.6])
def test_tuple_loss_equals_the_loop_for_one_and_several_tuples(count, margin):
    # The widely copied port pairs queries with other tuples' photos as soon as there are two tuples.
    tuples = random_units(count, 7, 3)
    expected = tuple_loop(tuples, margin)
    np.testing.assert_allclose(tuple_contrastive(tuples, margin), expected, rtol=1e-5)
    assert max(expected) > 0


def test_tuples_do_not_see_each_other():
    tuples = random_units(4, 5, 3)
    together = np.asarray(tuple_contrastive(tuples))
    for t in range(4):
        np.testing.assert_allclose(tuple_contrastive(tuples[t : t + 1])[0], together[t], rtol=1e-6)


def test_tuple_loss_by_hand():
    query, positive, near, far = [1, 0], [0, 1], [0.6, 0.8], [-1, 0]
    # d(q,p)^2 = 2, d(q,near) = sqrt(0.16 + 0.64) = 0.894427, d(q,far) = 2
    expected = 0.5 * (2 + (1.0 - np.sqrt(0.8)) ** 2)
    loss = tuple_contrastive(np.array([[query, positive, near, far]], np.float32), margin=1.0)
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


@pytest.mark.parametrize("margin", [0.5, MARGIN, 1.9])
def test_batch_loss_equals_the_loop(margin):
    rows, labels = random_units(12, 3, seed=1), [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4]
    np.testing.assert_allclose(batch_contrastive(rows, labels, margin), batch_loop(rows, labels, margin), rtol=1e-5)


def options_loop(rows, labels, margin, positive_margin, average):
    each = np.zeros((len(rows), len(rows)))
    for i in range(len(rows)):
        for j in range(len(rows)):
            d = distance(rows[i], rows[j])
            if labels[i] != labels[j]:
                each[i, j] = max(0.0, margin - d) ** 2 / 2
            elif i != j:
                each[i, j] = max(0.0, d - positive_margin) ** 2 / 2
    if average == "pairs":
        return each.sum() / (len(rows) * (len(rows) - 1))
    if average == "photos":
        return each.sum() / len(rows)
    same = np.equal.outer(labels, labels) & ~np.eye(len(rows), dtype=bool)
    close = ~np.equal.outer(labels, labels) & (each > 0)
    return each[same].mean() + each[close].mean()


@pytest.mark.parametrize("average", ["kinds", "pairs", "photos"])
@pytest.mark.parametrize("positive_margin", [0.0, 0.6])
def test_batch_loss_with_its_options_equals_the_loop(average, positive_margin):
    rows, labels = random_units(8, 3, seed=1), [0, 0, 0, 1, 1, 2, 2, 3]
    options = (1.2, positive_margin, average)
    # Distances are 2 - 2 cos, that of unit descriptors; so gradients are compared through the normalisation.
    assert_is_the_loop(
        lambda x: batch_contrastive(keras.ops.normalize(x), labels, *options),
        lambda x: options_loop(x / np.linalg.norm(x, axis=1, keepdims=True), labels, *options),
        rows,
    )


def test_photos_of_a_memory_count_as_those_of_the_batch():
    rows, labels = random_units(8, 3, seed=1), np.array([0, 0, 0, 1, 1, 2, 2, 3])
    whole, parts = options_loop(rows, labels, 1.2, 0.0, "photos"), 0.0
    for part, rest in ((slice(0, 5), slice(5, 8)), (slice(5, 8), slice(0, 5))):
        memory = pairs.Memory(rows[rest], labels[rest])
        found = batch_contrastive(rows[part], labels[part], 1.2, average="photos", memory=memory)
        parts += float(found) * len(rows[part])
    assert parts / 8 == pytest.approx(whole, rel=1e-5)


def test_an_unknown_average_is_refused():
    with pytest.raises(ValueError, match="average='mean' is unknown; one of kinds, pairs, photos is wanted"):
        BatchContrastive(average="mean")


def test_given_distances_by_hand():
    loss = DistanceContrastive(margin=1.0)
    found = loss.call(np.array([1, 1, 0, 0]), np.array([0.0, 0.5, 0.25, 3.0]))
    np.testing.assert_allclose(found, [0, 0.25, 0.5625, 0])
    assert float(loss(np.array([1, 1, 0, 0]), np.array([0.0, 0.5, 0.25, 3.0]))) == pytest.approx(0.8125 / 4)


def test_margins_are_those_of_the_paper():
    assert MARGINS == {"alexnet": 0.7, "vgg16": 0.75, "resnet101": MARGIN}


def test_batch_loss_is_finite_without_a_matching_and_without_a_non_matching_pair():
    rows = random_units(4, 3)
    np.testing.assert_allclose(batch_contrastive(rows, [0, 1, 2, 3], 1.2), batch_loop(rows, range(4), 1.2), rtol=1e-5)
    np.testing.assert_allclose(batch_contrastive(rows, [5] * 4, 1.2), batch_loop(rows, [5] * 4, 1.2), rtol=1e-5)


def test_gradients_are_finite_at_identical_descriptors():
    rows = tf.constant(np.repeat(random_units(1, 8), 6, axis=0))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(rows)
        of_tuples = tf.reduce_sum(tuple_contrastive(tf.reshape(rows, (2, 3, 8))))
        of_batch = batch_contrastive(rows, [0, 0, 1, 1, 2, 2])
    for loss in (of_tuples, of_batch):
        assert np.isfinite(loss) and np.isfinite(tape.gradient(loss, rows)).all()


def test_tuple_gradient_equals_the_closed_form():
    tuples = random_units(3, 4, 3, seed=2)
    variable, margin = tf.constant(tuples), 1.5
    with tf.GradientTape() as tape:
        tape.watch(variable)
        loss = tf.reduce_sum(tuple_contrastive(variable, margin))
    expected = np.zeros(tuples.shape)
    for t, (query, positive, *negatives) in enumerate(tuples.astype(np.float64)):
        expected[t, 0] += query - positive
        expected[t, 1] -= query - positive
        for n, negative in enumerate(negatives, 2):
            d = distance(query, negative)
            if d < margin:
                step = -(margin - d) * (query - negative) / d
                expected[t, 0] += step
                expected[t, n] -= step
    np.testing.assert_allclose(tape.gradient(loss, variable), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_descriptors_are_computed_in_float32(half):
    tuples = tf.cast(random_units(2, 4, 8), half)
    exact = tf.cast(tuples, tf.float32)
    labels = [0, 0, 1, 1, 2, 2, 3, 3]
    for found, expected in (
        (tuple_contrastive(tuples), tuple_contrastive(exact)),
        (batch_contrastive(tf.reshape(tuples, (8, 8)), labels), batch_contrastive(tf.reshape(exact, (8, 8)), labels)),
    ):
        assert found.dtype == tf.float32
        np.testing.assert_array_equal(found, expected)


def test_keras_losses_equal_the_functions():
    tuples, rows, labels = random_units(3, 4, 5), random_units(6, 5), np.array([0, 0, 1, 1, 2, 2])
    flat_labels = np.arange(12)
    assert float(TupleContrastive(1.1)(flat_labels, tuples)) == pytest.approx(
        float(np.mean(tuple_contrastive(tuples, 1.1)))
    )
    assert float(BatchContrastive(1.1)(labels, rows)) == pytest.approx(float(batch_contrastive(rows, labels, 1.1)))


@pytest.mark.parametrize("kind", [TupleContrastive, BatchContrastive])
def test_configuration_survives_a_round_trip(kind):
    loss = kind(margin=0.61, name="own")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is kind and again.get_config() == loss.get_config()
    assert again.margin == 0.61 and again.name == "own"
    assert kind().margin == MARGIN == 0.85
