"""How tf.data pipelines of this library run in parallel: on every core, in a repeatable order, without autotuning."""

import os

import tensorflow as tf

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def steady(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Makes a pipeline keep its order and its given parallelism; to be applied last.

    With autotuning, TensorFlow 2.21 often holds back the end of an iteration until its tuning thread wakes, which
    sleeps for periods that double from 10 ms to a minute: loops of 3.0 s and 6.1 s were seen to last 5.1 s and 10.2 s.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    return dataset.with_options(options)
