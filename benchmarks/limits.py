"""What a machine can do at most, as sides of benchmarks: matrix products, JPEG decoding, copies in memory."""

import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import tensorflow as tf
from PIL import Image

from tfretrieval.data.formats import jpeg
from tfretrieval.data.parallel import CORES, steady


def optional(name: str) -> object | None:
    """Returns a package that is a peer's, None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def matrix_products(side: int) -> dict[str, Callable]:
    """Returns a product of square matrices by each library that is here, in float32 and bfloat16, on all cores."""
    values = np.random.default_rng(0).random((side, side), np.float32)
    given = {"float32": tf.constant(values)}
    given["bfloat16"] = tf.cast(given["float32"], tf.bfloat16)
    sides = {f"TensorFlow, {kind}": (lambda each=each: tf.matmul(each, each).numpy()) for kind, each in given.items()}
    sides["NumPy, float32"] = lambda: values @ values
    if torch := optional("torch"):
        torch.set_num_threads(CORES)
        one = torch.from_numpy(values)
        half = one.bfloat16()
        sides |= {"PyTorch, float32": lambda: one @ one, "PyTorch, bfloat16": lambda: half @ half}
    return sides


def gigaflops(seconds: Mapping[str, Sequence[float]], side: int) -> dict[str, float]:
    """Returns the best rate by kind of number, in 10**9 floating-point operations a second, from `matrix_products`.

    Args:
        seconds: of its sides; others are left out.
        side: of the matrices.
    """
    best = {
        kind: min((min(times) for name, times in seconds.items() if name.endswith(f", {kind}")), default=float("nan"))
        for kind in ("float32", "bfloat16")
    }
    return {kind: 2e-9 * side**3 / least for kind, least in best.items()}


def jpeg_files(count: int, height: int, width: int) -> list[bytes]:
    """Returns JPEG files of soft patches with grain, about 2 bits a pixel, as photos have."""
    random, found = np.random.default_rng(0), []
    for _ in range(count):
        patches = random.integers(0, 256, (12, 16, 3)).astype(np.float32)
        picture = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
        picture += random.normal(0, 9, (height, width, 1)).astype(np.float32)
        done, encoded = cv2.imencode(".jpg", picture.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
        assert done
        found.append(encoded.tobytes())
    return found


def jpeg_decoders(files: Sequence[bytes]) -> dict[str, Callable]:
    """Returns runs that decode photos in full on all cores and keep nothing, by library."""
    pool = ThreadPoolExecutor(CORES)
    arrays = [np.frombuffer(each, np.uint8) for each in files]
    stored = tf.constant(list(files))
    places = tf.data.Dataset.range(len(files))
    full = lambda place: tf.size(jpeg.decode(stored[place], 1 << 20)[0])  # noqa: E731 - so long a side scales nothing
    decoded = steady(places.map(full, num_parallel_calls=CORES))

    def by_opencv(array: np.ndarray) -> int:
        return cv2.imdecode(array, cv2.IMREAD_COLOR).size

    def by_pillow(file: bytes) -> int:
        return len(Image.open(io.BytesIO(file)).convert("RGB").getbands())

    def by_tensorflow() -> None:
        for _ in decoded:
            pass

    return {
        "TensorFlow": by_tensorflow,
        "OpenCV": lambda: list(pool.map(by_opencv, arrays)),
        "Pillow": lambda: list(pool.map(by_pillow, files)),
    }


def copies(megabytes: int) -> dict[str, Callable]:
    """Returns a copy of an array, by one core and by all."""
    source = np.ones(megabytes << 17)
    target = np.zeros_like(source)
    pool = ThreadPoolExecutor(CORES)
    parts = np.array_split(np.arange(len(source)), CORES)
    slices = [slice(int(part[0]), int(part[-1]) + 1) for part in parts]
    copy = lambda part: np.copyto(target[part], source[part])  # noqa: E731
    return {"all cores": lambda: list(pool.map(copy, slices)), "one core": lambda: np.copyto(target, source)}
