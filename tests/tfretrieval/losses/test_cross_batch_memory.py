import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval import losses
from tfretrieval.losses import BatchContrastive, CrossBatchMemory, Margin, NormSoftmax, SupervisedContrastive

from .checks import random_units

LABELS = np.random.default_rng(1).integers(0, 4, (5, 6))
BATCHES = random_units(5, 6, 8, seed=3)
PAIR_LOSSES = [
    name for name, kind in losses.BATCH_LOSSES.items() if "memory" in inspect.signature(kind.call).parameters
]


def made(loss, size=100, start=0):
    loss = CrossBatchMemory(loss, size, start)
    loss.build(instances=4, dimension=8, seed=0)
    return loss


def anchored(rows, labels, everyone, every_label, temperature=0.1):
    """Supervised contrastive loss of the rows among everyone, who begin with the rows."""
    losses_ = []
    for i, row in enumerate(rows):
        shares = [np.exp(row @ other / temperature) for other in everyone.astype(float)]
        matches = [j for j in range(len(everyone)) if j != i and every_label[j] == labels[i]]
        if matches:
            total = sum(share for j, share in enumerate(shares) if j != i)
            losses_.append(-np.mean([np.log(shares[j] / total) for j in matches]))
    return np.mean(losses_)


def test_compares_each_batch_with_itself_and_all_before_it():
    loss = made(SupervisedContrastive())
    for number, (rows, labels) in enumerate(zip(BATCHES, LABELS, strict=True)):
        order = [number, *range(number)]
        expected = anchored(rows, labels, np.concatenate(BATCHES[order]), np.concatenate(LABELS[order]))
        assert float(loss(labels, rows)) == pytest.approx(expected, rel=1e-5)


def test_forgets_the_oldest_photos():
    loss = made(SupervisedContrastive(), size=8)
    for rows, labels in zip(BATCHES[:4], LABELS[:4], strict=True):
        loss(labels, rows)
    seen, kept = np.concatenate(BATCHES[:4])[-8:], np.concatenate(LABELS[:4])[-8:]
    descriptors, remembered, calls = loss.non_trainable_variables
    np.testing.assert_array_equal(descriptors.numpy(), seen)
    np.testing.assert_array_equal(remembered.numpy(), kept)
    assert int(calls.numpy()) == 4
    everyone, every_label = np.concatenate([BATCHES[4], seen]), np.concatenate([LABELS[4], kept])
    expected = anchored(BATCHES[4], LABELS[4], everyone, every_label)
    assert float(loss(LABELS[4], BATCHES[4])) == pytest.approx(expected, rel=1e-5)


def test_a_memory_smaller_than_a_batch_keeps_its_last_photos():
    loss = made(SupervisedContrastive(), size=4)
    loss(LABELS[0], BATCHES[0])
    np.testing.assert_array_equal(loss.non_trainable_variables[0].numpy(), BATCHES[0][-4:])


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_an_empty_or_unused_memory_changes_no_loss(name):
    expected = losses.LOSSES[name]()
    if hasattr(expected, "build"):
        expected.build(instances=4, dimension=8, seed=0)
    loss = made(losses.LOSSES[name](), size=9, start=2)
    for number in range(3):
        same = float(loss(LABELS[number], BATCHES[number])) == pytest.approx(
            float(expected(LABELS[number], BATCHES[number])), rel=1e-5
        )
        assert same == (number < 2)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_gradient_is_the_batchs_share_of_that_of_all_photos_together(name):
    """The memory is constant: its photos have no gradient, and no photo of the batch meets itself in it."""
    loss, kind = made(losses.LOSSES[name]()), losses.LOSSES[name]
    loss(LABELS[0], BATCHES[0])
    memory = losses.pairs.Memory(BATCHES[0], LABELS[0])
    plain = kind()
    if hasattr(plain, "build"):
        plain.build(instances=4, dimension=8, seed=0)
    rows, remembered = tf.constant(BATCHES[1]), tf.constant(BATCHES[0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([rows, remembered])
        expected = plain.call(LABELS[1], rows, memory=losses.pairs.Memory(remembered, memory.labels))
        found = tf.function(loss)(LABELS[1], rows)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(tape.gradient(found, rows), tape.gradient(expected, rows), rtol=1e-4, atol=1e-6)
    assert np.abs(tape.gradient(found, rows)).max() > 0
    assert tape.gradient(expected, remembered) is None


def test_a_batch_that_comes_twice_meets_its_first_copy_but_not_itself():
    rows, labels = np.eye(4, 8, dtype=np.float32), np.arange(4)  # no matches within the batch
    loss = made(BatchContrastive(margin=0.5))
    assert float(loss(labels, rows)) == 0
    assert float(loss(labels, -rows)) == pytest.approx(0.5 * 4)  # each with its opposite, at squared distance 4
    assert float(loss(labels, rows)) == pytest.approx(0.5 * (0 + 4) / 2)


def test_resumes_from_its_variables():
    first, second = made(Margin(), size=9, start=1), made(Margin(), size=9, start=1)
    for number in range(2):
        first(LABELS[number], BATCHES[number])
    assert [v.name for v in first.variables] == ["boundary", "memory", "memory_labels", "calls"]
    for variable, value in zip(second.variables, [v.numpy() for v in first.variables], strict=True):
        variable.assign(value)
    for number in range(2, 5):
        assert float(first(LABELS[number], BATCHES[number])) == float(second(LABELS[number], BATCHES[number]))


def test_half_precision_descriptors_are_remembered_in_float32():
    loss = made(SupervisedContrastive())
    rows = tf.cast(BATCHES[0], tf.bfloat16)
    assert loss.call(tf.constant(LABELS[0]), rows).dtype == tf.float32
    np.testing.assert_array_equal(loss.non_trainable_variables[0].numpy()[-6:], tf.cast(rows, tf.float32))


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="norm_softmax compares no pairs of a batch"):
        CrossBatchMemory(NormSoftmax(), 10)
    for given in ({"size": 0}, {"size": 5, "start": -1}):
        with pytest.raises(ValueError, match="1 photo or more from call 0 on"):
            CrossBatchMemory(Margin(), **given)


def test_works_around_all_losses_over_pairs_and_lists():
    assert set(losses.BATCH_LOSSES) - set(PAIR_LOSSES) == {
        *("arcface", "cosface", "norm_softmax", "proxy_anchor", "proxy_nca", "softmax")
    }


def test_configuration_makes_an_equal_loss():
    loss = CrossBatchMemory(BatchContrastive(0.6), 50, 7, name="own")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is CrossBatchMemory and again.get_config() == loss.get_config()
    assert (again.size, again.start, again.loss.margin, again.name) == (50, 7, 0.6, "own")
    assert CrossBatchMemory(Margin(), 5).start == 1000 and CrossBatchMemory(Margin(), 5).name == "margin"
