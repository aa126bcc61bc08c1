from pathlib import Path

import numpy as np
import pytest

from tfretrieval.data.record_set import RecordSet, Split
from tfretrieval.errors import InputError
from tfretrieval.training.instances import divide


def make_split(name, labels):
    labels = np.asarray(labels, np.int64)
    nothing = np.zeros(len(labels), np.int64)
    ids = tuple(f"{name}{row}" for row in range(len(labels)))
    sizes = np.full((len(labels), 2), 64, np.int32)
    return Split(name, (), nothing.astype(np.int32), nothing, nothing, ids, labels, sizes)


def make_records(**splits):
    labels = tuple(f"instance {number}" for number in range(100))
    made = {name: make_split(name, values) for name, values in splits.items()}
    return RecordSet(Path("records"), "toy", labels, made, "0" * 64)


def mixed_labels():
    """Twenty instances of one to six photos, shuffled, with gaps between the labels."""
    counts = [1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6]
    return np.random.default_rng(0).permutation(np.repeat(np.arange(20) * 4 + 1, counts))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_no_instance_both_trains_and_validates_and_no_photo_is_lost(share, seed):
    labels = mixed_labels()
    data = divide(make_records(train=labels), share, seed)
    held = set(labels[data.validation_rows])
    assert not held & set(labels[data.rows])
    assert sorted([*data.rows, *data.validation_rows]) == list(range(len(labels)))
    assert len(held) == max(2, round(share * 20))
    assert all((labels == label).sum() > 1 for label in held)  # a lone photo has nothing to be found by
    np.testing.assert_array_equal(data.labels, labels[data.rows])
    assert data.validation is data.split
    assert data.lone == 3


def test_the_seed_decides():
    records = make_records(train=mixed_labels())
    drawn = {tuple(divide(records, 0.25, seed).validation_rows) for seed in range(10)}
    assert len(drawn) > 5
    np.testing.assert_array_equal(divide(records, 0.25, 3).rows, divide(records, 0.25, 3).rows)


def test_a_validation_split_is_used_as_it_is():
    records = make_records(train=[0, 0, 1, 1, 2], validation=[5, 6, 5, 6, 6], queries=[0])
    data = divide(records, 0.5, 0)
    assert data.validation is records.splits["validation"]
    assert data.validation_rows.tolist() == [0, 1, 2, 3, 4]
    assert data.rows.tolist() == [0, 1, 2, 3, 4] and data.labels.tolist() == [0, 0, 1, 1, 2]
    assert data.lone == 1


def test_share_0_validates_nothing():
    data = divide(make_records(train=[0, 0, 1, 1]), 0.0, 0)
    assert len(data.validation_rows) == 0 and data.rows.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("labels", [[3, 3, 3], [0, 1, 2], [], [7]])
def test_too_few_instances_are_refused(labels):
    instances = len(set(labels))
    with pytest.raises(InputError, match=rf"--records=records has {instances} training instances"):
        divide(make_records(train=labels), 0.0, 0)


def test_too_few_instances_left_after_the_held_out_ones_name_the_flag():
    with pytest.raises(InputError, match=r"after --validation_share=0\.9 are held out"):
        divide(make_records(train=[0, 0, 1, 1, 2, 2]), 0.9, 0)


def test_records_without_a_train_split_are_refused_with_the_splits_they_have():
    with pytest.raises(InputError, match="--records=records has no split 'train'; it holds queries, database"):
        divide(make_records(queries=[0, 0], database=[0, 1]), 0.1, 0)
