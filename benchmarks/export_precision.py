"""Exports in bfloat16 and int8 against float32, side by side in one run; and what exporting a large network takes.

Each export is opened in a session, as TensorFlow Serving opens it, and describes the same photos; `unfrozen` is the
network put into the signature as it is. The network's weights are random, with statistics of BatchNorm that are not 0
and 1. Time and memory of an export are those of a process of its own.
Example: python -m benchmarks.export_precision
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import timing
from benchmarks.random_networks import random_network
from export.precision import PRECISIONS, FrozenNetwork
from export.served_session import ServedSession
from export.signatures import ServedDescriptor
from pipelines import script

FLAGS = flags.FLAGS

flags.DEFINE_string("backbone", "resnet50", "Network trunk that is timed, with random weights.")
flags.DEFINE_integer("size", 224, "Side of the photos in pixels.")
flags.DEFINE_integer("photos", 16, "Photos in a request.")
flags.DEFINE_integer("rounds", 5, "Timed requests of each export.")
flags.DEFINE_string("exported", "resnet101", "Network trunk whose export is measured; none where empty.")

# The instructions that make bfloat16 fast, as Linux names them.
_FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16")
_EXPORT = """
import json, resource, sys, time
start = time.perf_counter()
from export import saving
source = saving.load_source(sys.argv[1], image_size=224)
settings = saving.PrecisionSettings(sys.argv[3])
saving.write_version(source, sys.argv[2], {}, precision=settings)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"seconds": time.perf_counter() - start, "peak_gb": peak}))
"""


def processor_flags() -> list[str]:
    """Returns which of the instructions for bfloat16 this processor has."""
    path = Path("/proc/cpuinfo")
    known = path.read_text(encoding="utf-8").split() if path.is_file() else []
    return [name for name in _FAST_BFLOAT16 if name in known]


def made_photos(count: int, size: int) -> np.ndarray:
    """Returns JPEG files of soft patches, all of one size."""
    random = np.random.default_rng(0)
    patches = (random.integers(0, 256, (8, 8, 3)).astype(np.uint8) for _ in range(count))
    return np.array([tf.io.encode_jpeg(cv2.resize(patch, (size, size))).numpy() for patch in patches], object)


def save(network: keras.Model, side: str, size: int, folder: Path) -> float:
    """Writes an export with the signature serving_default; returns its files' size in MB."""
    frozen = None if side == "unfrozen" else FrozenNetwork(network, side)
    served = ServedDescriptor(frozen or network, size, "{}")
    served.frozen = frozen
    tf.saved_model.save(served, str(folder), signatures={"serving_default": served.serving_default})
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def measure_speed(folder: Path) -> None:
    """Times the exports in turn and prints their rates, sizes and cosines."""
    network, photos = random_network(FLAGS.backbone), {"image_bytes": made_photos(FLAGS.photos, FLAGS.size)}
    sides = ["unfrozen", *(name for name in PRECISIONS if name != "float32"), "float32"]
    sizes = {side: save(network, side, FLAGS.size, folder / side) for side in sides}
    sessions = {side: ServedSession(folder / side) for side in sides}
    found = {side: session("serving_default", photos)["descriptors"] for side, session in sessions.items()}
    cosines = {side: float((rows * found["unfrozen"]).sum(axis=1).min()) for side, rows in found.items()}
    runs = {side: (lambda each=session: each("serving_default", photos)) for side, session in sessions.items()}
    seconds = timing.in_turn(runs, FLAGS.rounds)
    fast = processor_flags()
    print(
        f"{FLAGS.backbone} at {FLAGS.size} px; bfloat16 instructions: {', '.join(fast) or 'none, so it is no faster'}"
    )
    for side in sides:
        print(f"{side:>36}: {sizes[side]:8.1f} MB, cosine to unfrozen at least {cosines[side]:.7f}")
    settings = {**script.flag_values(main), "bfloat16_instructions": fast, "megabytes": sizes, "min_cosine": cosines}
    timing.report("export_precision", seconds, FLAGS.photos, settings)


def measure_export(folder: Path) -> None:
    """Exports a large network in processes of their own, and prints what that took."""
    folder.mkdir()
    random_network(FLAGS.exported).save(folder / "network.keras")
    found = {}
    for precision in PRECISIONS:
        start = time.perf_counter()
        command = [sys.executable, "-c", _EXPORT, str(folder / "network.keras"), str(folder / precision), precision]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[precision] = {**json.loads(done.stdout.splitlines()[-1]), "wall_seconds": time.perf_counter() - start}
        told = found[precision]
        print(f"export of {FLAGS.exported}, {precision}: {told['seconds']:.0f} s, peak {told['peak_gb']:.2f} GB")
    seconds = {name: [told["seconds"]] for name, told in found.items()}
    timing.write("export_cost", seconds, {"exports": found}, script.flag_values(main))


def main() -> None:
    """Measures speed, and the cost of an export."""
    with tempfile.TemporaryDirectory() as folder:
        if FLAGS.exported:
            measure_export(Path(folder) / "exported")
        measure_speed(Path(folder))


if __name__ == "__main__":
    script.run_main(main)
