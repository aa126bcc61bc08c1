"""Three-scale extraction from JPEG files by this toolkit and by what a user would pick instead, with the same weights.

A ResNet-50 with GeM and random weights that are drawn once, in PyTorch, and come over as a published checkpoint does.
PyTorch's first side runs as cnnimageretrieval-pytorch does: eager, a photo at a time, float32; the others as well as
they can. Beside them, in the same rounds, matrix products by each library: what the machine could do at most.
Example: python -m benchmarks.peers
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import limits, timing
from benchmarks.peer_photos import jpeg_folder, photo_rows
from export.precision import BFLOAT16, FLOAT32, FrozenNetwork
from pipelines import script
from tfretrieval.data import parallel
from tfretrieval.data.batch_plan import BatchPlan, plan_batches
from tfretrieval.data.decoding import decode_photo
from tfretrieval.data.parallel import CORES, steady
from tfretrieval.data.photo_batches import read_batches
from tfretrieval.errors import InputError
from tfretrieval.extraction import Extractor, default_batch_pixels
from tfretrieval.importing import cirtorch
from tfretrieval.importing.published import ImportOptions
from tfretrieval.importing.run import Imported, import_network
from tfretrieval.models import flops

FLAGS = flags.FLAGS

flags.DEFINE_string("architecture", "resnet50", "resnet18, resnet50 or resnet101.")
flags.DEFINE_integer("photos", 6, "Photos in one timed run.")
flags.DEFINE_integer("size", 1024, "Their longer side in pixels; the shorter is three quarters of it.")
flags.DEFINE_list("scales", ["1", "0.70710678", "0.5"], "Factors on the photos' sides.")
flags.DEFINE_list("sides", [], "Beginnings of the names of the sides that run; all when not given.")
flags.DEFINE_integer("rounds", 3, "Timed runs of each side.")
flags.DEFINE_integer("matrix", 3072, "Side of the square matrices that are multiplied.")
flags.DEFINE_string("output", "runs/benchmarks", "Folder of the JSON file and the chart.")

EAGER, CHANNELS_LAST = "PyTorch eager, as cnnimageretrieval-pytorch", "PyTorch channels-last"
AUTOCAST, AUTOCAST_LAST = "PyTorch bfloat16 autocast", "PyTorch bfloat16 autocast, channels-last"
ONNX, PREDICT = "ONNX Runtime", "tf.keras.Model.predict"
OURS, OURS_BFLOAT16 = "this toolkit, float32", "this toolkit, bfloat16"
NETWORK, NETWORK_BFLOAT16 = "this toolkit's network alone, float32", "this toolkit's network alone, bfloat16"
# Of issue 8: least ratio of a side to another.
WANTED = {
    (OURS, EAGER): 2.5,
    (OURS, CHANNELS_LAST): 1.9,
    (OURS_BFLOAT16, EAGER): 5.0,
    (OURS_BFLOAT16, AUTOCAST): 1.5,
    (OURS_BFLOAT16, AUTOCAST_LAST): 1.5,
    (OURS, ONNX): 1.0,
    (OURS, PREDICT): 1.0,
    (OURS, NETWORK): 0.85,
    (OURS_BFLOAT16, NETWORK_BFLOAT16): 0.85,
}
LEAST_COSINE = 0.9999


def import_random(network, scales: tuple[float, ...]) -> Imported:
    """Carries a PyTorch network's weights over as `pipelines.import_torch` does with a checkpoint."""
    published = cirtorch.read("random weights", network.checkpoint(), ImportOptions())
    return import_network(published, scales)


def our_sides(imported: Imported, paths: list[str], size: int) -> dict[str, Callable[[], np.ndarray]]:
    """Returns this toolkit's extraction in both precisions, its networks on decoded batches, and Keras's `predict`."""
    rows = photo_rows(paths, size)
    plan = BatchPlan.of(plan_batches(rows.sizes, 32, default_batch_pixels()))
    batches = [(batch.rows, tf.constant(batch.photos)) for batch in read_batches(rows, plan)]
    sides = {}
    names = ((FLOAT32, OURS, NETWORK), (BFLOAT16, OURS_BFLOAT16, NETWORK_BFLOAT16))
    for precision, name, alone in names:
        try:
            frozen = FrozenNetwork(imported.model, precision)
        except InputError as error:
            print(f"{name} is left out: {error}")
            continue
        extractor = Extractor(frozen, size)
        sides[name] = lambda extractor=extractor: extractor.describe(rows, paths)
        sides[alone] = lambda frozen=frozen: _network_alone(frozen, batches, len(paths))
    decode = lambda path: decode_photo(tf.io.read_file(path), size)  # noqa: E731
    photos = tf.data.Dataset.from_tensor_slices(paths).map(decode, num_parallel_calls=CORES).batch(1).prefetch(CORES)
    sides[PREDICT] = lambda: imported.model.predict(steady(photos), verbose=0)
    return sides


def _network_alone(network: Callable, batches: list, count: int) -> np.ndarray:
    found = np.zeros((count, network.output_shape[-1]), np.float32)
    for rows, photos in batches:
        found[rows] = network(photos).numpy()
    return found


def peer_sides(network, paths: list[str], size: int, scales: tuple[float, ...], power: float) -> dict[str, Callable]:
    """Returns the sides of PyTorch and ONNX Runtime; see `torch_sides`."""
    from benchmarks import torch_sides

    of = torch_sides.PhotoLoop(network, paths, size, scales, power)
    sides = {AUTOCAST_LAST: of.run(True, True), AUTOCAST: of.run(False, True), CHANNELS_LAST: of.run(True, False)}
    try:
        sides[ONNX] = of.run_onnx()
    except ImportError as error:
        print(f"{ONNX} is left out: the package {error.name} is not installed; pip install onnx onnxruntime")
    return {**sides, EAGER: of.run(False, False)}


def network_flops(imported: Imported, sizes: np.ndarray) -> float:
    """Returns the floating-point operations of a network on photos of given sizes, int [N, 2], together."""
    model, total = imported.model, 0
    shapes, counts = np.unique(sizes, axis=0, return_counts=True)
    for (height, width), count in zip(shapes.tolist(), counts.tolist(), strict=True):
        (cost,) = flops.costs(lambda photos: [model(photos, training=False)], (1, height, width, 3))
        total += cost.flops * count
    return float(total)


def cosines(found: dict[str, np.ndarray], base: str) -> dict[str, float]:
    """Returns the least cosine of each side's descriptors to another's of the same photos."""
    unit = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in found.items()}
    return {name: float((rows * unit[base]).sum(axis=1).min()) for name, rows in unit.items()}


def network_shares(seconds: dict[str, list[float]], most: dict[str, float], operations: float) -> dict[str, float]:
    """Returns the networks' rates as shares of the matrix products' in their precision, by side."""
    of = {NETWORK: FLOAT32, NETWORK_BFLOAT16: BFLOAT16}
    return {side: operations * 1e-9 / min(seconds[side]) / most[kind] for side, kind in of.items() if side in seconds}


def main() -> None:
    """Times the sides, compares their descriptors, and holds the ratios against what is wanted."""
    if limits.optional("torch") is None:
        print("peers is left out: PyTorch, whose weights all sides share, is not installed; `make peers` installs it.")
        return
    from benchmarks.torch_networks import random_resnet

    parallel.set_threads()
    network, scales, found = random_resnet(FLAGS.architecture), tuple(map(float, FLAGS.scales)), {}
    imported = import_random(network, scales)
    with tempfile.TemporaryDirectory() as folder:
        paths = jpeg_folder(Path(folder), FLAGS.photos, FLAGS.size)
        sizes = photo_rows(paths, FLAGS.size).sizes
        runs = our_sides(imported, paths, FLAGS.size)
        runs |= peer_sides(network, paths, FLAGS.size, scales, imported.report["power"])
        chosen = {
            name: (lambda name=name, run=run: found.update({name: run()}))
            for name, run in runs.items()
            if not FLAGS.sides or name.startswith(tuple(FLAGS.sides)) or name == EAGER
        }
        products = limits.matrix_products(FLAGS.matrix)
        seconds = timing.in_turn({**products, **chosen}, FLAGS.rounds)
    most = limits.gigaflops({name: seconds.pop(name) for name in products}, FLAGS.matrix)
    write(seconds, found, most, sizes, imported)


def write(seconds: dict, found: dict, most: dict[str, float], sizes: np.ndarray, imported: Imported) -> None:
    """Prints and writes the figures."""
    operations = network_flops(imported, sizes)
    shares, near = network_shares(seconds, most, operations), cosines(found, EAGER)
    for side, cosine in near.items():
        print(f"{side:>46}: cosine to {EAGER!r} at least {cosine:.7f}")
    print(f"{operations * 1e-9 / len(sizes):.0f} GFLOP a photo; most of matrix products:", end=" ")
    print(", ".join(f"{kind} {rate:.0f} GFLOP/s" for kind, rate in most.items()))
    for side, share in shares.items():
        print(f"{side}: {share:.2f} of the matrix products' rate")
    if OURS in found and OURS_BFLOAT16 in found:
        change = cosines({name: found[name] for name in (OURS, OURS_BFLOAT16)}, OURS)[OURS_BFLOAT16]
        print(f"bfloat16 to float32: cosine at least {change:.6f} ({LEAST_COSINE} wanted)")
    title = (
        f"{FLAGS.architecture} with GeM, {len(FLAGS.scales)} scales, {FLAGS.size} px, from JPEG files, {CORES} cores"
    )
    wanted = timing.held_against(seconds, WANTED)
    more = {
        **{"min_cosine": near, "wanted": wanted, "gflop_per_photo": operations * 1e-9 / len(sizes)},
        **{"matrix_gigaflops": most, "share_of_matrix_products": shares, "cores": os.cpu_count()},
    }
    timing.report("peers", seconds, len(sizes), script.flag_values(main), FLAGS.output, title=title, more=more)


if __name__ == "__main__":
    script.run_main(main)
