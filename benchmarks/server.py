"""The local server over gRPC against calling the same SavedModel in process, in turn; and what a server needs.

Requests of one photo and of several, one request at a time on both sides: the share of the in-process rate that is left
over gRPC, and the milliseconds that one photo takes longer. Single photos from many threads at once show what batching
across requests gives. Then servers on one core and on more, alone: photos a second and memory, for sizing. Figures are
medians over rounds that alternate between the sides; on a machine that others use too, they need many.
Example: python -m benchmarks.server
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import timing
from benchmarks.served import serving
from benchmarks.served.serving import ServedNetwork
from export.client import DescriptorClient
from pipelines import script

FLAGS = flags.FLAGS

flags.DEFINE_list("batches", ["1", "4", "16", "32"], "Photos in a request.")
flags.DEFINE_integer("rounds", 20, "Rounds of each size; of one photo five times as many.", lower_bound=1)
flags.DEFINE_integer("senders", 32, "Threads that send single photos at once.", lower_bound=1)
flags.DEFINE_integer("width", 640, "Width of the photos, JPEGs of noise in patches, in pixels.", lower_bound=1)
flags.DEFINE_integer("height", 480, "Height of the photos in pixels.", lower_bound=1)
flags.DEFINE_integer("sizing_rounds", 5, "Rounds of each size in the table of cores; 0 leaves it out.", lower_bound=0)
script.define_flags(ServedNetwork)

ONE_PHOTO_FACTOR = 5
BATCHING = "max_batch_size { value: 16 } batch_timeout_micros { value: 3000 }"


def made_photos(count: int, width: int, height: int) -> list[bytes]:
    """Returns JPEG files of patches with grain, whose decoding costs what photos' does."""
    random, found = np.random.default_rng(0), []
    for _ in range(count):
        patches = random.integers(0, 256, (24, 32, 3)).astype(np.float32)
        pixels = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC) + random.normal(
            0, 6, (height, width, 3)
        )
        found.append(tf.io.encode_jpeg(pixels.clip(0, 255).astype(np.uint8), quality=90).numpy())
    return found


def in_process(version: Path) -> Callable[[list[bytes]], np.ndarray]:
    """Returns a call of the SavedModel, as `tf.saved_model.load` gives it."""
    signature = tf.saved_model.load(str(version)).signatures["serving_default"]
    return lambda photos: signature(image_bytes=tf.constant(photos))["descriptors"].numpy()


def compare(
    call: Callable[[list[bytes]], np.ndarray], client: DescriptorClient, photos: list[bytes], batch: int, rounds: int
) -> dict:
    """Times requests of one size on both sides in turn.

    Returns:
        `photos_per_second` by side, `share` of the in-process rate, `overhead_milliseconds` of a request, `seconds`.
    """
    batches = [photos[at : at + batch] for at in range(0, len(photos) - batch + 1, batch)]
    place = {"in process": 0, "gRPC": 0}

    def one(side: str, ask: Callable[[list[bytes]], np.ndarray]) -> Callable[[], None]:
        def run() -> None:
            ask(batches[place[side] % len(batches)])
            place[side] += 1

        return run

    sides = {"gRPC": one("gRPC", client.describe), "in process": one("in process", call)}
    seconds = timing.in_turn(sides, rounds)
    pairs = list(zip(seconds["gRPC"], seconds["in process"], strict=True))
    return {
        "photos_per_second": {side: batch / statistics.median(times) for side, times in seconds.items()},
        "share": statistics.median(own / served for served, own in pairs),
        "overhead_milliseconds": 1000 * statistics.median(served - own for served, own in pairs),
        "p50_milliseconds": {side: 1000 * statistics.median(times) for side, times in seconds.items()},
        "seconds": seconds,
    }


def together(client: DescriptorClient, photos: list[bytes], senders: int) -> float:
    """Sends every photo by itself, many at a time; returns photos a second."""
    start = time.perf_counter()
    with futures.ThreadPoolExecutor(senders) as pool:
        list(pool.map(lambda photo: client.describe([photo]), photos))
    return len(photos) / (time.perf_counter() - start)


def sizing(base: Path, photos: list[bytes], cores: list[int], batches: list[int], rounds: int) -> list[dict]:
    """Measures a server that has some cores to itself; the client's own work comes on top of one of them.

    Returns:
        For each number of cores: `photos_per_second` by batch, and `megabytes` loaded and at most.
    """
    found = []
    for count in cores:
        allowed = tuple(sorted(os.sched_getaffinity(0))[:count])
        with (
            serving.ServerProcess(base, cores=allowed) as server,
            DescriptorClient(server.grpc_address, serving.MODEL, timeout=300, max_batch_photos=max(batches)) as client,
        ):
            loaded, rates = server.megabytes(), {}
            for batch in batches:
                times = timing.in_turn({"gRPC": lambda batch=batch: client.describe(photos[:batch])}, rounds)["gRPC"]
                rates[str(batch)] = batch / statistics.median(times)
            megabytes = {"loaded": loaded, "peak": server.megabytes(peak=True)}
            found.append({"cores": count, "photos_per_second": rates, "megabytes": megabytes})
    return found


def single_photos(base: Path, folder: Path, photos: list[bytes], call: Callable, rounds: int, senders: int) -> dict:
    """Sends single photos from many threads, to a server that batches them and to one that does not, in turn.

    Returns:
        Photos a second by side, and shares of calling in process with batches of 16.
    """
    parameters = folder / "batching.config"
    parameters.write_text(BATCHING, encoding="utf-8")
    options = {"apart": [], "batched": ["--enable_batching", f"--batching_parameters_file={parameters}"]}
    rates: dict[str, list[float]] = {**{side: [] for side in options}, "in process, batches of 16": []}
    with (
        serving.ServerProcess(base, *options["apart"]) as apart,
        serving.ServerProcess(base, *options["batched"]) as batched,
        DescriptorClient(apart.grpc_address, serving.MODEL) as first,
        DescriptorClient(batched.grpc_address, serving.MODEL) as second,
    ):
        for counted in [False] + [True] * rounds:
            for side, client in (("apart", first), ("batched", second)):
                rate = together(client, photos, senders)
                rates[side] += [rate] if counted else []
            start = time.perf_counter()
            for at in range(0, len(photos), 16):
                call(photos[at : at + 16])
            rates["in process, batches of 16"] += [len(photos) / (time.perf_counter() - start)] if counted else []
    *_, reference = rates.values()
    shares = {
        side: statistics.median(rate / base for rate, base in zip(each, reference, strict=True))
        for side, each in rates.items()
    }
    return {"photos_per_second": {side: statistics.median(each) for side, each in rates.items()}, "share": shares}


def main() -> None:
    """Exports a network and measures."""
    batches = [int(batch) for batch in FLAGS.batches]
    photos = made_photos(max(64, 2 * max(batches)), FLAGS.width, FLAGS.height)
    served = script.from_flags(ServedNetwork)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = folder / "model"
        version = serving.export_version(served.build(), served.size, base)
        call, compared = in_process(version), {}
        with (
            serving.ServerProcess(base) as server,
            DescriptorClient(server.grpc_address, serving.MODEL, max_batch_photos=max(batches)) as client,
        ):
            for batch in batches:
                rounds = FLAGS.rounds * (ONE_PHOTO_FACTOR if batch == 1 else 1)
                compared[str(batch)] = compare(call, client, photos, batch, rounds)
        singles = single_photos(base, folder, photos, call, max(1, FLAGS.rounds // 4), FLAGS.senders)
        cores = sorted({1, len(os.sched_getaffinity(0))}) if FLAGS.sizing_rounds else []
        sized = sizing(base, photos, cores, batches, FLAGS.sizing_rounds)
    seconds = {batch: each.pop("seconds") for batch, each in compared.items()}
    figures = {"by_batch": compared, "single_photos": singles, "sizing": sized}
    timing.write("server", seconds, figures, script.flag_values(main))
    _print(figures)


def _print(figures: dict) -> None:
    for batch, told in figures["by_batch"].items():
        p50, rates = told["p50_milliseconds"], told["photos_per_second"]
        print(
            f"{batch:>3} photos: {rates['gRPC']:.1f} photos/s over gRPC, {rates['in process']:.1f} in process, share "
            f"{told['share']:.3f}; p50 {p50['gRPC']:.1f} and {p50['in process']:.1f} ms, "
            f"{told['overhead_milliseconds']:.2f} ms more"
        )
    for side, share in figures["single_photos"]["share"].items():
        rate = figures["single_photos"]["photos_per_second"][side]
        print(f"single photos {side}: {rate:.1f} photos/s, {share:.3f} of in process")
    for told in figures["sizing"]:
        rates = ", ".join(f"{batch}: {rate:.1f}" for batch, rate in told["photos_per_second"].items())
        memory = told["megabytes"]
        print(f"{told['cores']} cores, photos/s by batch {rates}; {memory['loaded']:.0f} to {memory['peak']:.0f} MB")


if __name__ == "__main__":
    script.run_main(main)
