"""The toolkit's augmentation against Keras's own random layers with the same ranges, on the same decoded photos.

Example: python -m benchmarks.augmentation
"""

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import timing
from pipelines import script
from tfretrieval.data import augmentation
from tfretrieval.data.augmentation import Augmentation
from tfretrieval.data.parallel import CORES, steady

FLAGS = flags.FLAGS

flags.DEFINE_integer("size", 192, "Side of the views in pixels.")
flags.DEFINE_integer("batch", 48, "Photos in a batch.")
flags.DEFINE_integer("batches", 10, "Batches in one timed run.")
flags.DEFINE_integer("rounds", 3, "Timed runs of each side.")

RANGES = Augmentation(min_area=0.4, aspect=1.0, rotation=15.0, saturation=0.2, hue=0.05, erasing=0.5)


def _keras_layers(size: int) -> list[keras.layers.Layer]:
    """Returns Keras's layers for the ranges of `RANGES`."""
    zoom, pixels = 1 - RANGES.min_area**0.5, {"value_range": (0, 255)}
    return [
        keras.layers.Resizing(size, size),
        keras.layers.RandomZoom((-zoom, 0.0)),
        keras.layers.RandomRotation(RANGES.rotation / 360),
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomBrightness(RANGES.brightness, **pixels),
        keras.layers.RandomContrast(RANGES.contrast, **pixels),
        keras.layers.RandomSaturation((0.4, 0.6), **pixels),
        keras.layers.RandomHue(RANGES.hue, **pixels),
        keras.layers.RandomErasing(RANGES.erasing, scale=(0.02, 0.25), **pixels),
    ]


def main() -> None:
    """Times both sides on photos in memory."""
    side = FLAGS.size * 4 // 3
    photos = tf.constant(np.random.default_rng(0).integers(0, 256, (FLAGS.batch, side, side, 3), np.uint8))
    numbers = tf.data.Dataset.range(FLAGS.batch * FLAGS.batches)
    draws = np.random.default_rng(0).random((FLAGS.batch * FLAGS.batches, 6))
    matrices = augmentation.view_matrices(np.full((len(draws), 2), side), FLAGS.size, RANGES, draws)
    colours = augmentation.colour_layers(RANGES)
    layers = _keras_layers(FLAGS.size)

    def view(number: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
        return augmentation.view(photos[number % FLAGS.batch], matrix, FLAGS.size)

    def vary(step: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
        return augmentation.vary_colours(views, colours, tf.stack([tf.constant(1, tf.int64), step]))

    def through_layers(batch: tf.Tensor) -> tf.Tensor:
        batch = tf.cast(batch, tf.float32)
        for layer in layers:
            batch = layer(batch, training=True)
        return batch

    views = tf.data.Dataset.zip(numbers, tf.data.Dataset.from_tensor_slices(matrices)).map(
        view, num_parallel_calls=CORES
    )
    ours = steady(views.batch(FLAGS.batch).enumerate().map(vary).prefetch(2))
    theirs = numbers.map(lambda number: photos[number % FLAGS.batch]).batch(FLAGS.batch)
    theirs = steady(theirs.map(through_layers, num_parallel_calls=CORES).prefetch(2))

    def run(dataset: tf.data.Dataset) -> None:
        for _ in dataset:
            pass

    seconds = timing.in_turn({"tfretrieval": lambda: run(ours), "Keras layers": lambda: run(theirs)}, FLAGS.rounds)
    timing.report("augmentation", seconds, FLAGS.batch * FLAGS.batches, script.flag_values(main))


if __name__ == "__main__":
    script.run_main(main)
