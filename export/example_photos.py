"""Photos that are made, not taken: for warm-up requests, and for checks where no records are given."""

import cv2
import numpy as np
import tensorflow as tf

# Height and width by the longer side that the network sees: larger ones are scaled down, as most photos are.
_SHAPES = ((1.5, 2.0), (2.0, 1.5), (1.0, 1.0), (0.75, 1.0), (1.0, 0.5), (0.4, 0.6), (1.2, 1.2), (2.0, 3.0))


def example_photos(longer_side: int, count: int = len(_SHAPES), seed: int = 0) -> list[bytes]:
    """Makes encoded photos of soft coloured patches with some grain, JPEG and PNG in turn, in several shapes.

    They are equal in every process. They are no photos of anything: figures measured on them say that arithmetic
    agrees, not how well a network retrieves.

    Args:
        longer_side: pixels that the network's photos are resized to.
        count: how many.
        seed: of the patches.
    """
    return [_photo(longer_side, number, seed) for number in range(count)]


def _photo(longer_side: int, number: int, seed: int) -> bytes:
    random = np.random.default_rng([seed, number])
    height, width = (max(8, round(longer_side * factor)) for factor in _SHAPES[number % len(_SHAPES)])
    patches = random.integers(0, 256, (6, 7, 3)).astype(np.float32)
    pixels = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    pixels += random.normal(0, 12, pixels.shape)
    pixels = tf.constant(pixels.clip(0, 255).astype(np.uint8))
    return (tf.io.encode_png(pixels) if number % 2 else tf.io.encode_jpeg(pixels, quality=90)).numpy()
