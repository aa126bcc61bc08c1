"""GeM, forward and backward, against average pooling plus one elementwise power of the same maps.

Both sides are graphs, and both give the gradients of the maps and, where p is learnt, of p.
Example: python -m benchmarks.pooling
"""

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import timing
from pipelines import script
from tfretrieval.layers import POOLINGS

FLAGS = flags.FLAGS

flags.DEFINE_list("shape", ["8", "32", "32", "2048"], "Maps: count, height, width, channels.")
flags.DEFINE_float("p", 3.0, "Exponent.")
flags.DEFINE_boolean("learnt", True, "Whether p is learnt.")
flags.DEFINE_list(
    "poolings", ["gem"], "Poolings to time; all of them: gem,spoc,mac,rmac,crow,regional_gem,superglobal."
)
flags.DEFINE_integer("rounds", 20, "Timed runs of each side.")


def _both_ways(pool, maps: tf.Tensor, variables: list):
    """Returns a run of a pooling and its gradients as a graph, to its end."""

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(maps)
            total = tf.reduce_sum(pool(maps))
        return tape.gradient(total, [maps, *variables])

    return lambda: run()[0][0, 0, 0, 0].numpy()


def main() -> None:
    """Times the poolings and the power."""
    shape = tuple(int(side) for side in FLAGS.shape)
    maps = tf.constant(np.maximum(np.random.default_rng(0).normal(size=shape), 0).astype(np.float32))
    exponent = tf.Variable(FLAGS.p, trainable=FLAGS.learnt)
    sides = {}
    for name in FLAGS.poolings:
        layer = POOLINGS[name](**({"p": FLAGS.p, "trainable_p": FLAGS.learnt} if name == "gem" else {}))
        layer.build(shape)
        sides[name] = _both_ways(layer, maps, [weight.value for weight in layer.trainable_weights])
    sides["average pooling plus a power"] = _both_ways(
        lambda given: tf.reduce_mean(given**exponent, axis=(1, 2)), maps, [exponent] if FLAGS.learnt else []
    )
    timing.report("pooling", timing.in_turn(sides, FLAGS.rounds), shape[0], script.flag_values(main))


if __name__ == "__main__":
    script.run_main(main)
