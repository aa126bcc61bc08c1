"""What this machine can do at most: matrix products, JPEG decoding, memory. Speeds are held against these.

Example: python -m benchmarks.machine
"""

from pathlib import Path

import cv2
from absl import flags

from benchmarks import limits, timing
from pipelines import script
from tfretrieval.data import parallel
from tfretrieval.data.parallel import CORES

FLAGS = flags.FLAGS

flags.DEFINE_integer("matrix", 3072, "Side of the square matrices that are multiplied.")
flags.DEFINE_integer("megabytes", 512, "Size of the array that is copied.")
flags.DEFINE_integer("jpegs", 24, "Photos that are decoded in one timed run.")
flags.DEFINE_list("jpeg_size", ["768", "1024"], "Their height and width in pixels.")
flags.DEFINE_integer("rounds", 5, "Timed runs of each side.")
flags.DEFINE_string("output", "runs/benchmarks", "Folder of the JSON files and charts.")


def main() -> None:
    """Measures the three limits."""
    parallel.set_threads()
    cv2.setNumThreads(1)
    settings, output = script.flag_values(main), Path(FLAGS.output)
    sides = limits.matrix_products(FLAGS.matrix)
    order = sorted(sides, key=lambda name: name == "TensorFlow, float32")
    seconds = timing.in_turn({name: sides[name] for name in order}, FLAGS.rounds)
    most = limits.gigaflops(seconds, FLAGS.matrix)
    print(f"most of matrix products: float32 {most['float32']:.0f}, bfloat16 {most['bfloat16']:.0f} GFLOP/s")
    more, title = {"gigaflops": most}, "Matrix products"
    timing.report("machine_matrix", seconds, 2e-9 * FLAGS.matrix**3, settings, output, "GFLOP", title, more)
    height, width = map(int, FLAGS.jpeg_size)
    files = limits.jpeg_files(FLAGS.jpegs, height, width)
    seconds = timing.in_turn(limits.jpeg_decoders(files), FLAGS.rounds)
    title = f"JPEG files of {width} x {height} px decoded on {CORES} cores"
    timing.report("machine_jpeg", seconds, FLAGS.jpegs, settings, output, title=title)
    seconds = timing.in_turn(limits.copies(FLAGS.megabytes), FLAGS.rounds)
    gigabytes = 2 * FLAGS.megabytes / 1024
    timing.report("machine_memory", seconds, gigabytes, settings, output, "GB", "Memory, read and written by a copy")


if __name__ == "__main__":
    script.run_main(main)
