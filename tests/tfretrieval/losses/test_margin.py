import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import Margin, pairs
from tfretrieval.losses.margin import margin_loss, sampling_weights

from .checks import assert_is_the_loop, distance, partners, random_units

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 3]


def probabilities(rows, i, others, sampling):
    """Wu et al. 2017, section 3: inverse to the density of distances on the sphere, cut off at 0.5 and 1.4."""
    dimension, near = rows.shape[1], [n for n in others if distance(rows[i], rows[n]) < 1.4] or others
    weights = []
    for n in others:
        d = max(0.5, distance(rows[i], rows[n]))
        density = d ** (dimension - 2) * (1 - d**2 / 4) ** ((dimension - 3) / 2)
        weights.append(1.0 if sampling == "uniform" else (1 / density if n in near else 0.0))
    return np.array(weights) / sum(weights)


def loop(rows, boundary, weights_of=None, margin=0.2, sampling="distance", labels=LABELS):
    fixed, losses = rows if weights_of is None else weights_of, []
    bounds = np.broadcast_to(np.float64(boundary), len(rows))
    for i in range(len(rows)):
        matches, others = partners(labels, i)
        for j in matches if others else []:
            loss = max(0.0, distance(rows[i], rows[j]) - bounds[i] + margin)
            for n, weight in zip(others, probabilities(fixed, i, others, sampling), strict=True):
                loss += weight * max(0.0, bounds[i] - distance(rows[i], rows[n]) + margin)
            losses.append(loss)
    return np.mean(losses)


@pytest.mark.parametrize("sampling", ["distance", "uniform"])
@pytest.mark.parametrize("boundary", [0.9, 1.2, list(np.linspace(0.8, 1.6, 9))])
@pytest.mark.parametrize("dimension", [3, 6])
def test_equals_the_loop(sampling, boundary, dimension):
    rows, boundary = random_units(9, dimension), np.float32(boundary)
    assert_is_the_loop(
        lambda x: margin_loss(x, LABELS, boundary, 0.2, sampling),
        lambda x: loop(x, boundary, rows, 0.2, sampling),
        rows,
    )


def test_by_hand():
    rows = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    # One pair at sqrt(2); its one non-match is sqrt(0.8) and sqrt(0.4) away.
    pull, push = np.sqrt(2) - 1.2 + 0.2, 1.2 + 0.2 - np.sqrt([0.8, 0.4])
    assert float(margin_loss(rows, [0, 0, 1], np.float32(1.2))) == pytest.approx(pull + push.mean(), rel=1e-5)


def test_distances_that_are_rare_are_drawn_more_often_also_in_many_dimensions():
    found = np.array([[0.0, 0.3, 0.5, 0.8, 1.2, 1.39, 1.41, 1.6]], np.float32)
    other = np.ones_like(found)
    other[0, 0] = 0
    (weights,) = np.asarray(sampling_weights(found, other, 8, "distance"))
    assert weights.sum() == pytest.approx(1) and weights[0] == 0 and (weights[6:] == 0).all()
    assert weights[1] == weights[2] and (np.diff(weights[2:6]) < 0).all()
    assert np.isfinite(sampling_weights(found, other, 4096, "distance")).all()
    (far,) = np.asarray(sampling_weights(np.float32([[0.0, 1.5, 2.0]]), np.float32([[0, 1, 1]]), 8, "distance"))
    assert far.sum() == pytest.approx(1) and np.isfinite(far).all()


def test_photos_of_a_memory_count_as_those_of_the_batch():
    rows, labels = random_units(9, 4), np.array(LABELS)
    found = float(margin_loss(rows[:5], labels[:5], np.float32(1.1), memory=pairs.Memory(rows[5:], labels[5:])))
    # Photos 0 to 4 have all their matches among themselves.
    losses = []
    for i in range(5):
        matches, others = partners(LABELS, i)
        push = probabilities(rows, i, others, "distance") @ [max(0, 1.3 - distance(rows[i], rows[n])) for n in others]
        losses += [max(0, distance(rows[i], rows[j]) - 0.9) + push for j in matches]
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


def built(**options):
    loss = Margin(**options)
    loss.build(instances=4, dimension=6, seed=0)
    return loss


def test_the_boundary_is_the_losses_own_and_regularised():
    rows, loss = random_units(9, 6), built(boundary=1.1, regularisation=0.5)
    (boundary,) = loss.trainable_variables
    assert boundary.shape == (1,) and float(boundary[0]) == pytest.approx(1.1)
    boundary.assign([1.3])
    expected = loop(rows, 1.3) + 0.5 * 0.2**2
    assert float(loss(np.array(LABELS), rows)) == pytest.approx(expected, rel=1e-5)
    with tf.GradientTape() as tape:
        value = loss(np.array(LABELS), rows)
    (slope,) = tape.gradient(value, [boundary.value])
    numeric = (loop(rows, 1.3 + 1e-5) - loop(rows, 1.3 - 1e-5)) / 2e-5 + 0.5 * 2 * 0.2
    np.testing.assert_allclose(slope, [numeric], atol=1e-4)


def test_each_instance_may_have_its_own_boundary():
    rows, loss = random_units(9, 6), built(per_instance=True, regularisation=0.1)
    (boundary,) = loss.trainable_variables
    boundary.assign([0.9, 1.0, 1.2, 1.4])
    each = np.array([0.9, 1.0, 1.2, 1.4])[LABELS]
    expected = loop(rows, each) + 0.1 * np.mean((each - 1.2) ** 2)
    assert float(loss(np.array(LABELS), rows)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("labels", [LABELS, [0] * 9, list(range(9))])
def test_the_boundary_does_not_run_off(labels):
    """Descriptors stand still; 3,000 steps of Adam at the rate of training leave the boundary among the distances."""
    rows, labels, loss = tf.constant(random_units(9, 6)), tf.constant(labels), built()
    (boundary,) = loss.trainable_variables
    optimizer = keras.optimizers.Adam(3e-3)
    optimizer.build(loss.trainable_variables)

    @tf.function
    def train(steps):
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                value = loss(labels, rows)
            optimizer.apply(tape.gradient(value, [boundary.value]), loss.trainable_variables)

    train(3000)
    assert 0.5 < float(boundary[0]) < 1.6


def test_configuration_survives_a_round_trip_and_an_unknown_sampling_is_refused():
    loss = Margin(0.3, 1.0, 0.2, True, "uniform", name="own")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config() and again.per_instance and again.sampling == "uniform"
    with pytest.raises(ValueError, match="sampling='hard' is unknown; one of distance, uniform is wanted"):
        Margin(sampling="hard")
