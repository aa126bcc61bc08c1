import math
import os

import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.data import photo_store, pipeline
from tfretrieval.data.augmentation import Augmentation
from tfretrieval.data.parallel import CORES, steady, usable_cores
from tfretrieval.data.training_batches import training_batches


def test_the_cores_are_those_this_process_may_use():
    assert 1 <= CORES <= os.cpu_count()


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu.max": "broken"}, math.inf),
        ({}, math.inf),
    ],
)
def test_a_containers_quota_of_time_limits_the_cores(tmp_path, files, cores):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == min(len(os.sched_getaffinity(0)), cores)


def test_elements_stay_as_they_are_and_in_order():
    numbers = tf.data.Dataset.range(100).map(lambda number: number * 2, num_parallel_calls=4)
    assert list(steady(numbers).as_numpy_iterator()) == list(range(0, 200, 2))


@pytest.mark.parametrize(
    "make",
    [
        pipeline.read_records,
        lambda train: pipeline.decoded_photos(train, 40),
        lambda train: pipeline.batches_of_equal_shape(pipeline.decoded_photos(train, 40), 4),
        lambda train: photo_store.read_rows(train, np.arange(4), 40),
        lambda train: training_batches(
            photo_store.PhotoStore(train, 40), np.arange(4).reshape(2, 2), 16, Augmentation(), (0, 0)
        ),
    ],
    ids=["read_records", "decoded_photos", "batches_of_equal_shape", "read_rows", "training_batches"],
)
def test_no_pipeline_of_the_library_is_tuned_while_it_runs(make, train):
    options = make(train).options()
    assert options.autotune.enabled is False
    assert options.deterministic is True
