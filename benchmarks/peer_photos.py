"""Photos that sides of a benchmark share: JPEG files in a folder, read by row."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks.limits import jpeg_files
from tfretrieval.data.decoding import decode_photo
from tfretrieval.data.photo_store import PhotoRows, decoded_sizes


def jpeg_folder(folder: Path, count: int, size: int) -> list[str]:
    """Writes JPEG files with sides of 4 : 3, every third of them upright, and returns their paths."""
    short = round(size * 0.75)
    lying, upright = jpeg_files(count - count // 3, short, size), jpeg_files(count // 3, size, short)
    paths = []
    for number in range(count):
        path = folder / f"{number:04}.jpg"
        path.write_bytes(upright.pop() if number % 3 == 2 else lying.pop())
        paths.append(str(path))
    return paths


def photo_rows(paths: list[str], size: int) -> PhotoRows:
    """Returns JPEG files as photos by row, their longer side at most `size` pixels."""
    sizes = []
    for path in paths:
        with Image.open(path) as photo:
            sizes.append(photo.size[::-1])
    stored = tf.constant(paths)
    return PhotoRows(decoded_sizes(np.array(sizes), size), lambda row: decode_photo(tf.io.read_file(stored[row]), size))
