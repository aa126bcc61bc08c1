import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval import losses
from tfretrieval.losses import ArcFace, JointLoss, PhotosOfTuples, TupleContrastive, WeightedSum
from tfretrieval.losses.arcface import arcface
from tfretrieval.losses.contrastive import tuple_contrastive

from .checks import random_units

TUPLES = random_units(3, 4, 8)
LABELS = np.array([0, 0, 1, 2, 1, 1, 2, 3, 3, 3, 0, 1])


@pytest.mark.parametrize("name", losses.BATCH_LOSSES)
def test_equals_the_loss_of_the_batch_of_photos(name):
    loss, wrapped = losses.LOSSES[name](), PhotosOfTuples(losses.LOSSES[name]())
    for part in (loss, wrapped):
        if hasattr(part, "build"):
            part.build(instances=4, dimension=8, seed=3)
    photos = np.concatenate(list(TUPLES))
    assert wrapped.name == name
    assert float(wrapped(LABELS, TUPLES)) == pytest.approx(float(loss(LABELS, photos)), rel=1e-6)


@pytest.mark.parametrize("joint", [WeightedSum, JointLoss])
def test_classification_and_ranking_of_the_same_tuples_combine(joint):
    parts = [PhotosOfTuples(ArcFace()), TupleContrastive()]
    loss = joint(parts, [0.5, 2.0])
    loss.build(instances=4, dimension=8, seed=3)
    classes = loss.trainable_variables[0]
    expected = 0.5 * arcface(TUPLES.reshape(12, 8), LABELS, classes.numpy()) + 2 * np.mean(tuple_contrastive(TUPLES))
    slack = 0.01 if joint is JointLoss else 0.0  # the floor under a learned weight, at s = 0
    tuples = tf.constant(TUPLES)
    with tf.GradientTape() as tape:
        tape.watch(tuples)
        value = tf.function(loss)(LABELS, tuples)
    assert float(value) == pytest.approx(float(expected) + slack, rel=1e-5)
    for gradient in tape.gradient(value, [tuples, *(v.value for v in loss.trainable_variables)]):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_configuration_makes_an_equal_loss():
    loss = WeightedSum([PhotosOfTuples(ArcFace(scale=30.0)), TupleContrastive(0.7)], [1.0, 0.5])
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is WeightedSum and again.get_config() == loss.get_config()
    assert type(again.parts[0]) is PhotosOfTuples and again.parts[0].loss.scale == 30.0 and again.weights == [1.0, 0.5]
