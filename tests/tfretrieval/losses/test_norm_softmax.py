import keras
import numpy as np
import pytest

from tfretrieval.losses import NormSoftmax, SupervisedContrastive, WeightedSum
from tfretrieval.losses.norm_softmax import norm_softmax


def unit(rng, *shape):
    rows = rng.normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def by_definition(descriptors, labels, weights, scale, smoothing):
    total = 0.0
    for row, label in zip(descriptors.astype(np.float64), labels, strict=True):
        logits = [scale * row @ weight / np.linalg.norm(weight) for weight in weights.astype(np.float64)]
        log_sum = np.log(np.sum(np.exp(logits)))
        for number, logit in enumerate(logits):
            wanted = (1 - smoothing) * (number == label) + smoothing / len(weights)
            total -= wanted * (logit - log_sum)
    return total / len(labels)


@pytest.mark.parametrize(("scale", "smoothing"), [(16.0, 0.1), (1.0, 0.0), (64.0, 0.5)])
def test_norm_softmax_is_its_definition(scale, smoothing):
    rng = np.random.default_rng(0)
    descriptors, weights, labels = (
        unit(rng, 6, 8),
        rng.normal(size=(4, 8)).astype(np.float32),
        np.array([0, 3, 1, 1, 2, 0]),
    )
    found = norm_softmax(descriptors, labels, weights, scale, smoothing)
    assert float(found) == pytest.approx(by_definition(descriptors, labels, weights, scale, smoothing), rel=1e-5)


def test_class_weights_are_the_losses_own_and_the_same_for_the_same_seed():
    first, second, third = NormSoftmax(), NormSoftmax(), NormSoftmax()
    for loss, seed in ((first, 5), (second, 5), (third, 6)):
        loss.build(instances=7, dimension=3, seed=seed)
    (weights,) = first.trainable_variables
    assert weights.shape == (7, 3)
    np.testing.assert_array_equal(weights.numpy(), second.trainable_variables[0].numpy())
    assert (weights.numpy() != third.trainable_variables[0].numpy()).any()


def test_configuration_makes_an_equal_loss():
    loss = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(NormSoftmax(scale=20.0, smoothing=0.2))
    )
    assert (loss.scale, loss.smoothing) == (20.0, 0.2)


def test_a_weighted_sum_is_the_sum_of_its_weighted_parts():
    rng = np.random.default_rng(1)
    descriptors, labels = unit(rng, 6, 8), np.array([0, 0, 1, 1, 2, 2])
    softmax, contrastive = NormSoftmax(), SupervisedContrastive()
    both = WeightedSum([softmax, contrastive], [1.0, 0.5])
    both.build(3, 8, 0)
    assert len(both.trainable_variables) == 1
    expected = float(softmax(labels, descriptors)) + 0.5 * float(contrastive(labels, descriptors))
    assert float(both(labels, descriptors)) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="2 losses and 1 weights"):
        WeightedSum([softmax, contrastive], [1.0])
