import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.losses import listwise, pairs
from tfretrieval.losses.average_precision import average_precision
from tfretrieval.losses.smooth_ap import smooth_ap

from .checks import random_units

LOSSES = [average_precision, smooth_ap]
LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 4, 4, 5])


def value_and_gradient(loss, rows, **arguments):
    rows = tf.convert_to_tensor(rows)
    with tf.GradientTape() as tape:
        tape.watch(rows)
        value = loss(rows, LABELS, **arguments)
    return value, tape.gradient(value, rows)


@pytest.mark.parametrize("budget", [800, 2600])
@pytest.mark.parametrize("loss", LOSSES)
def test_chunks_change_neither_value_nor_gradient(loss, budget, monkeypatch):
    rows = random_units(13, 6)
    expected = value_and_gradient(loss, rows)
    assert np.abs(expected[1]).max() > 1e-3
    monkeypatch.setattr(listwise, "BUDGET", budget)
    assert listwise._rows_at_once(13, 13, 20) in (3, 7)
    for run in (value_and_gradient, tf.function(value_and_gradient)):
        for found, wanted in zip(run(loss, rows), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_of_unknown_size_gives_the_same(loss):
    rows, unknown = random_units(13, 6), tf.TensorSpec([None, 6], tf.float32)
    traced = tf.function(lambda rows: value_and_gradient(loss, rows), input_signature=[unknown])
    for found, wanted in zip(traced(rows), value_and_gradient(loss, rows), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("budget", [1, 2**22])
@pytest.mark.parametrize("loss", LOSSES)
def test_remembered_photos_are_in_the_lists_but_have_none(loss, budget, monkeypatch):
    rows, labels = random_units(9, 5), np.array([0, 0, 1, 2, 0, 1, 1, 3, 2])
    memory = pairs.Memory(np.concatenate([rows[4:], rows[:2]]), np.concatenate([labels[4:], [-1, -1]]))
    # The lists of the first four photos, one after the other: every other photo alone cannot have one.
    expected = []
    for q in range(4):
        alone = np.arange(100, 109)
        alone[labels == labels[q]] = 0
        if (labels == labels[q]).sum() > 1:
            order = np.concatenate([[q], np.delete(np.arange(9), q)])
            own = np.where(labels[order] == labels[q], 0, np.arange(100, 109))
            first = pairs.Memory(rows[order[1:]], own[1:])
            expected.append(float(loss(rows[order[:1]], own[:1], memory=first)))
    monkeypatch.setattr(listwise, "BUDGET", budget)
    np.testing.assert_allclose(loss(rows[:4], labels[:4], memory=memory), np.mean(expected), rtol=1e-5)


def test_chunks_are_of_about_equal_size():
    assert listwise._rows_at_once(48, 48, 20) == 48
    assert listwise._rows_at_once(4096, 4096, 20) == 51
    assert listwise._rows_at_once(4096, 4096, None) == 1
    assert listwise._rows_at_once(tf.constant(48), 48, 20) == 16
