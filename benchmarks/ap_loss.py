"""Peak memory of list-wise losses at large batches, alone and with a network behind them in three passes over chunks.

Each side runs in a process of its own, whose peak resident memory is that of loss, gradients and TensorFlow together.
Example: python -m benchmarks.ap_loss --batch=4096 --dimension=2048
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from absl import flags

from pipelines import script
from tfretrieval import console, files, provenance

FLAGS = flags.FLAGS

flags.DEFINE_integer("batch", 4096, "Photos in a batch, four of each instance.", lower_bound=8)
flags.DEFINE_integer("dimension", 2048, "Dimension of the descriptors of a loss alone.", lower_bound=1)
flags.DEFINE_list("losses", ["average_precision", "tie_aware_average_precision"], "Losses to measure alone.")
flags.DEFINE_integer("image_size", 0, "Side of the photos of a network trained in chunks; 0 for losses alone.")
flags.DEFINE_string("backbone", "mobilenet_v2_1.0", "That network's trunk.")
flags.DEFINE_integer("chunk", 64, "Photos in that network at once.", lower_bound=1)
flags.DEFINE_integer("rounds", 2, "Timed runs after a first one that is not timed.", lower_bound=1)
flags.DEFINE_string("side", None, "Measures one side in this process; what the benchmark calls itself with.")
flags.DEFINE_string("output", "runs/benchmarks", "Folder of the JSON file.")


def _loss_alone(name: str):
    import tensorflow as tf

    from tfretrieval import losses

    rows = np.random.default_rng(0).normal(size=(FLAGS.batch, FLAGS.dimension)).astype(np.float32)
    rows = tf.constant(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    loss, labels = losses.LOSSES[name](), tf.range(FLAGS.batch) // 4

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(rows)
            value = loss(labels, rows)
        return value, tape.gradient(value, rows)

    return run


def _through_network(name: str):
    import tensorflow as tf

    from tfretrieval import losses
    from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor
    from tfretrieval.training import large_batch

    model, loss, labels = (
        build_descriptor(DescriptorConfig(FLAGS.backbone)),
        losses.LOSSES[name](),
        tf.range(FLAGS.batch) // 4,
    )
    shape = (FLAGS.batch, FLAGS.image_size, FLAGS.image_size, 3)
    photos = tf.constant(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    variables = [variable.value for variable in model.trainable_variables]

    @tf.function
    def run():
        return large_batch.gradients(
            lambda chunk: model(chunk, training=False),
            lambda rows: loss(labels, rows),
            photos,
            FLAGS.chunk,
            variables,
        )

    return run


def _measure(side: str) -> None:
    """Prints seconds of each run, and peak resident memory in bytes before and after, as one line of JSON."""
    where, name = side.split(":")
    run = {"alone": _loss_alone, "network": _through_network}[where](name)
    before, seconds = _peak_bytes(), []
    for _ in range(1 + FLAGS.rounds):
        start = time.perf_counter()
        float(run()[0])
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds[1:], "peak_before_bytes": before, "peak_bytes": _peak_bytes()}))


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Measures every side in a process of its own and writes the figures."""
    if FLAGS.side:
        _measure(FLAGS.side)
        return
    sides = [f"network:{FLAGS.losses[0]}"] if FLAGS.image_size else [f"alone:{name}" for name in FLAGS.losses]
    settings, found = script.flag_values(main), {}
    for side in sides:
        command = [sys.executable, "-m", "benchmarks.ap_loss", *sys.argv[1:], f"--side={side}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
        found[side] = json.loads(done.stdout.splitlines()[-1])
        peak, before = (found[side][name] / 1e9 for name in ("peak_bytes", "peak_before_bytes"))
        console.say(f"{side}: peak {peak:.2f} GB ({before:.2f} before), {min(found[side]['seconds']):.1f} s a step")
    result = {**provenance.header(settings, 0, {}), "sides": found}
    name = "ap_loss_network.json" if FLAGS.image_size else "ap_loss.json"
    Path(FLAGS.output).mkdir(parents=True, exist_ok=True)
    files.write_json(Path(FLAGS.output) / name, result)


if __name__ == "__main__":
    script.run_main(main)
