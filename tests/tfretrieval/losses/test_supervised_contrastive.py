import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import SupervisedContrastive
from tfretrieval.losses.supervised_contrastive import TEMPERATURE, supervised_contrastive

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4]


def random_units(*shape, seed=0):
    vectors = np.random.default_rng(seed).normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def loop(rows, labels, temperature):
    rows, losses = rows.astype(np.float64), []
    for i in range(len(rows)):
        matches = [j for j in range(len(rows)) if j != i and labels[j] == labels[i]]
        everyone = sum(np.exp(rows[i] @ rows[a] / temperature) for a in range(len(rows)) if a != i)
        terms = [np.log(np.exp(rows[i] @ rows[j] / temperature) / everyone) for j in matches]
        if matches:
            losses.append(-sum(terms) / len(matches))
    return sum(losses) / max(1, len(losses))


@pytest.mark.parametrize("temperature", [0.05, TEMPERATURE, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_loop(temperature, seed):
    rows = random_units(12, 4, seed=seed)
    found = supervised_contrastive(rows, LABELS, temperature)
    np.testing.assert_allclose(found, loop(rows, LABELS, temperature), rtol=1e-5)


def test_two_photos_of_one_instance_cost_nothing():
    assert float(supervised_contrastive(random_units(2, 4), [7, 7])) == pytest.approx(0, abs=1e-6)


def test_batch_without_a_match_costs_nothing_and_has_a_finite_gradient():
    rows = tf.constant(random_units(4, 3))
    with tf.GradientTape() as tape:
        tape.watch(rows)
        loss = supervised_contrastive(rows, [0, 1, 2, 3])
    assert loss == 0
    np.testing.assert_array_equal(tape.gradient(loss, rows), 0)


@pytest.mark.parametrize("temperature", [0.001, TEMPERATURE])
def test_value_and_gradient_are_finite_at_identical_descriptors(temperature):
    rows = tf.constant(np.repeat(random_units(1, 8), 6, axis=0))
    with tf.GradientTape() as tape:
        tape.watch(rows)
        loss = supervised_contrastive(rows, [0, 0, 1, 1, 2, 2], temperature)
    assert float(loss) == pytest.approx(np.log(5), rel=1e-3)  # one match among five equal others
    assert np.isfinite(tape.gradient(loss, rows)).all()


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_descriptors_are_computed_in_float32(half):
    rows = tf.cast(random_units(12, 8), half)
    found = supervised_contrastive(rows, LABELS)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, supervised_contrastive(tf.cast(rows, tf.float32), LABELS))


def test_keras_loss_equals_the_function():
    rows, labels = random_units(12, 5), np.array(LABELS)
    expected = float(supervised_contrastive(rows, labels, 0.3))
    assert float(SupervisedContrastive(0.3)(labels, rows)) == pytest.approx(expected)


def test_configuration_survives_a_round_trip():
    loss = SupervisedContrastive(temperature=0.07, name="own")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is SupervisedContrastive and again.get_config() == loss.get_config()
    assert again.temperature == 0.07 and again.name == "own"
