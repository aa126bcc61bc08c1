import numpy as np
import pytest

from tfretrieval.losses import ArcFace, BatchContrastive, CrossBatchMemory, Margin, NormSoftmax, ProxyNCA, WeightedSum

from .checks import random_units

ROWS, LABELS = random_units(6, 8), np.array([0, 0, 1, 1, 2, 2])


def made(*parts):
    loss = WeightedSum(list(parts), [1.0, *(0.5 for _ in parts[1:])])
    loss.build(instances=3, dimension=8, seed=0)
    return loss


def test_owns_what_its_parts_own_in_their_order():
    loss = made(ArcFace(warmup=3), CrossBatchMemory(Margin(), 4), BatchContrastive())
    assert [v.name for v in loss.trainable_variables] == ["class_weights", "boundary"]
    assert [v.name for v in loss.non_trainable_variables] == ["calls", "memory", "memory_labels", "calls"]
    assert [v.name for v in loss.variables] == [
        v.name for v in [*loss.trainable_variables, *loss.non_trainable_variables]
    ]
    assert all(v.trainable for v in loss.trainable_variables)
    assert not any(v.trainable for v in loss.non_trainable_variables)
    assert set(loss.scalars) == {"arcface/margin"}


def test_parts_of_one_kind_begin_differently():
    loss = made(NormSoftmax(), NormSoftmax())
    first, second = (variable.numpy() for variable in loss.trainable_variables)
    assert (first != second).any()


def test_is_the_sum_of_its_weighted_parts_and_counts_each_call_once():
    parts = ArcFace(warmup=3), CrossBatchMemory(BatchContrastive(), 20, start=0)
    loss, alone = made(*parts), (ArcFace(warmup=3), CrossBatchMemory(BatchContrastive(), 20, start=0))
    for number, part in enumerate(alone):
        part.build(instances=3, dimension=8, seed=number)
    for _ in range(3):
        expected = float(alone[0](LABELS, ROWS)) + 0.5 * float(alone[1](LABELS, ROWS))
        assert float(loss(LABELS, ROWS)) == pytest.approx(expected, rel=1e-6)


def test_may_be_negative_where_a_part_may():
    assert made(BatchContrastive(), ProxyNCA()).may_be_negative
    assert not made(BatchContrastive(), ArcFace()).may_be_negative
