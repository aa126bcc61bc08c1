"""A network of several scales against the same network on each scale by itself.

The single runs come twice: with the resizing of the photo to their scale, and on photos that were resized before.
Example: python -m benchmarks.multi_scale
"""

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import timing
from pipelines import script
from tfretrieval.layers.multi_scale import resize
from tfretrieval.models.descriptor import DescriptorConfig, add_scales, build_descriptor

FLAGS = flags.FLAGS

flags.DEFINE_string("backbone", "mobilenet_v2_1.0", "Network trunk, with random weights.")
flags.DEFINE_integer("size", 512, "Side of the photos in pixels.")
flags.DEFINE_integer("batch", 1, "Photos in a batch.")
flags.DEFINE_list("scales", ["1", "0.7071", "0.5"], "Factors on the photos' sides.")
flags.DEFINE_integer("rounds", 20, "Timed runs of each side.")


def _graph(model, dtype: tf.DType):
    """Returns the network as a graph for photos of any size."""
    signature = [tf.TensorSpec([None, None, None, 3], dtype)]
    return tf.function(lambda photos: model(photos, training=False), input_signature=signature)


def main() -> None:
    """Times the network of all scales and both kinds of single runs."""
    scales = tuple(float(scale) for scale in FLAGS.scales)
    network = build_descriptor(DescriptorConfig(FLAGS.backbone))
    photos = np.random.default_rng(0).integers(0, 256, (FLAGS.batch, FLAGS.size, FLAGS.size, 3), np.uint8)
    photos = tf.constant(photos)
    together = _graph(add_scales(network, scales), tf.uint8)
    apart = [_graph(add_scales(network, (scale,)), tf.uint8) for scale in scales]
    plain, resized = _graph(network, tf.float32), [resize(photos, scale) for scale in scales]
    sides = {
        "all scales in one network": lambda: together(photos).numpy(),
        "single runs, on resized photos": lambda: [plain(smaller).numpy() for smaller in resized],
        "single runs, each with its resize": lambda: [single(photos).numpy() for single in apart],
    }
    seconds = timing.in_turn(sides, FLAGS.rounds)
    timing.report("multi_scale", seconds, FLAGS.batch, script.flag_values(main))


if __name__ == "__main__":
    script.run_main(main)
