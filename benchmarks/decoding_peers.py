"""Training views out of records of JPEG files against OpenCV, Pillow, and the bare decoding of the same files.

Every side that makes views decodes, resizes to a third more than the view's side, cuts the same random view and varies
brightness, contrast and saturation, on all cores. The bare decoding of the fastest library here is the limit: nothing
that looks at all pixels of a file can pass it.
Example: python -m benchmarks.decoding_peers
"""

import io
import math
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from absl import flags
from PIL import Image, ImageEnhance

from benchmarks import limits, timing
from pipelines import script
from tfretrieval.data import augmentation, parallel
from tfretrieval.data.augmentation import Augmentation
from tfretrieval.data.parallel import CORES
from tfretrieval.data.photo_store import PhotoStore, decoded_sizes
from tfretrieval.data.record_set import Split
from tfretrieval.data.sources import SourceOptions, read_folder
from tfretrieval.data.training_batches import training_batches
from tfretrieval.data.write_records import WriteOptions, write_record_set

FLAGS = flags.FLAGS

flags.DEFINE_integer("photos", 96, "JPEG files in one timed run.")
flags.DEFINE_list("jpeg_size", ["768", "1024"], "Their height and width in pixels.")
flags.DEFINE_integer("size", 192, "Side of the views in pixels.")
flags.DEFINE_integer("batch", 48, "Views in a batch.")
flags.DEFINE_integer("rounds", 5, "Timed runs of each side.")
flags.DEFINE_string("output", "runs/benchmarks", "Folder of the JSON file and the chart.")

OURS, RESIZED = "this toolkit: decode, resize, augment", "this toolkit: decode, resize"
BARE = "bare decoding, {}"
HOW = Augmentation()


def records_of(files: Sequence[bytes], folder: Path) -> Split:
    """Writes JPEG files into records."""
    for number, file in enumerate(files):
        path = folder / "photos" / f"instance_{number % 2}" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file)
    entries = read_folder(folder / "photos", SourceOptions())
    return write_record_set(entries, folder / "records", WriteOptions("benchmark"))[0].split("train")


def our_sides(split: Split, size: int, batch: int) -> dict[str, Callable]:
    """Returns training batches from records without a cache, and the decoded photos alone."""
    store = PhotoStore(split, math.ceil(size * 4 / 3), cache_bytes=0)
    plan = np.arange(len(split))[: len(split) // batch * batch].reshape(-1, batch)
    batches = training_batches(store, plan, size, HOW, (0, 0))
    photos = parallel.steady(
        batches.from_tensor_slices(plan.ravel().astype(np.int64)).map(store.photo, num_parallel_calls=CORES)
    )
    return {OURS: lambda: _run_through(batches), RESIZED: lambda: _run_through(photos)}


def _run_through(dataset) -> None:
    for _ in dataset:
        pass


class Peer:
    """Makes the same views by another library, each by one core; `varied` by OpenCV, `enhanced` by Pillow.

    Args:
        files: JPEG files.
        sizes: their heights and widths, int [N, 2].
        size: side of the views in pixels.
    """

    def __init__(self, files: Sequence[bytes], sizes: np.ndarray, size: int):
        self._files, self._size = files, size
        random = np.random.default_rng(0)
        self._sizes = decoded_sizes(sizes, math.ceil(size * 4 / 3))
        self._matrices = augmentation.view_matrices(self._sizes, size, HOW, random.random((len(files), 6)))
        self._draws = random.uniform(0.8, 1.2, (len(files), 3)).astype(np.float32)

    def varied(self, number: int) -> np.ndarray:
        """Returns a view by OpenCV, float32 [size, size, 3]."""
        photo = cv2.imdecode(np.frombuffer(self._files[number], np.uint8), cv2.IMREAD_COLOR)
        height, width = self._sizes[number].tolist()
        photo = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
        view = augmentation.cut_view(photo, self._matrices[number], self._size).astype(np.float32)
        brightness, contrast, saturation = self._draws[number]
        luma = np.array([0.114, 0.587, 0.299], np.float32)
        matrix = contrast * (saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * luma)
        shift = (1 - contrast) * float(cv2.mean(view)[:3] @ luma)
        affine = brightness * np.concatenate([matrix, np.full((3, 1), shift, np.float32)], axis=1)
        return np.clip(cv2.transform(view, affine), 0, 255)

    def enhanced(self, number: int) -> np.ndarray:
        """Returns a view by Pillow, uint8 [size, size, 3]."""
        photo = Image.open(io.BytesIO(self._files[number])).convert("RGB")
        height, width = self._sizes[number].tolist()
        photo = photo.resize((width, height), Image.Resampling.BOX)
        matrix = self._matrices[number].ravel().tolist()
        view = photo.transform((self._size, self._size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        for kind, factor in zip(
            (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness), self._draws[number], strict=True
        ):
            view = kind(view).enhance(float(factor))
        return np.asarray(view)


def main() -> None:
    """Times the sides and says which share of the bare decoding ours reaches."""
    parallel.set_threads()
    cv2.setNumThreads(1)
    height, width = map(int, FLAGS.jpeg_size)
    files = limits.jpeg_files(FLAGS.photos, height, width)
    peer = Peer(files, np.tile([height, width], (len(files), 1)), FLAGS.size)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(CORES) as pool:
        sides = our_sides(records_of(files, Path(folder)), FLAGS.size, FLAGS.batch)
        places = range(len(files))
        sides |= {"OpenCV: the same": lambda: list(pool.map(peer.varied, places))}
        sides |= {"Pillow: the same": lambda: list(pool.map(peer.enhanced, places))}
        sides |= {BARE.format(name): run for name, run in limits.jpeg_decoders(files).items()}
        seconds = timing.in_turn(sides, FLAGS.rounds)
    bare = min((name for name in seconds if name.startswith(BARE.format(""))), key=lambda name: sum(seconds[name]))
    seconds[bare] = seconds.pop(bare)
    wanted = timing.held_against(seconds, {(OURS, bare): 0.9, (OURS, "OpenCV: the same"): 1.0})
    title = f"Views of {FLAGS.size} px out of JPEG files of {width} x {height} px, {CORES} cores"
    more = {"wanted": wanted}
    timing.report("decoding_peers", seconds, len(files), script.flag_values(main), FLAGS.output, title=title, more=more)


if __name__ == "__main__":
    script.run_main(main)
