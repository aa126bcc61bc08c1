"""Photos as requests send them: checked from their headers, decoded, turned upright, and resized for the network."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tfretrieval.data import decoding
from tfretrieval.data.formats import binary, exif
from tfretrieval.data.write_records import DEFAULT_MAX_PIXELS
from tfretrieval.errors import InputError

DEFAULT_MAX_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True)
class PhotoLimits:
    """Which photos an export refuses from their headers; `export.saved_model` has a flag for each.

    Attributes:
        max_bytes: Photos whose file has more bytes are refused.
        max_pixels: Photos of more pixels (height * width) are refused, before anything of them is decoded.
    """

    max_bytes: int = DEFAULT_MAX_BYTES
    max_pixels: int = DEFAULT_MAX_PIXELS

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise InputError(f"--{name}={value}; 1 or more is wanted.")


DEFAULT_LIMITS = PhotoLimits()


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedPhotos:
    """Photos of a request, resized for the network.

    Attributes:
        pixels: ragged uint8 [N, (h * w * 3)].
        sizes: int32 [N, 2], height and width of these pixels.
        given: int32 [N, 2], height and width of the photos as they were sent, turned upright.
    """

    pixels: tf.RaggedTensor
    sizes: tf.Tensor
    given: tf.Tensor


@tf.autograph.experimental.do_not_convert  # which takes seconds, and there is nothing to convert
def decode_rows(image_bytes: tf.Tensor, longer_side: int, limits: PhotoLimits) -> DecodedPhotos:
    """Decodes and resizes each row of a request.

    Args:
        image_bytes: string [N].
        longer_side: see `decoding.decode_sent`.
        limits: what is refused.

    Raises:
        tf.errors.InvalidArgumentError: a row is not an image, is too large, or its data is broken.
    """
    return map_photos(image_bytes, limits, lambda encoded, up, _: decoding.decode_sent(encoded, up, longer_side))


def map_photos(
    image_bytes: tf.Tensor,
    limits: PhotoLimits,
    decode: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
) -> DecodedPhotos:
    """Decodes each row of a request, none of them before the headers of all are known to be within the limits.

    Args:
        image_bytes: string [N].
        limits: what is refused.
        decode: from a file, its orientation and its row to pixels uint8 [h, w, 3] and the photo's size, int32 [2].

    Raises:
        tf.errors.InvalidArgumentError: see `decode_rows`.
    """
    orientations, refusal = _read_headers(image_bytes, limits)
    with tf.control_dependencies([refusal]):
        rows = tf.range(tf.size(image_bytes))

    def one(numbered: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        encoded, orientation, row = numbered
        photo, given = decode(encoded, orientation, row)
        return tf.reshape(photo, [-1]), tf.shape(photo)[:2], given

    size = tf.TensorSpec([2], tf.int32)
    signature = (tf.RaggedTensorSpec([None], tf.uint8, ragged_rank=0), size, size)
    return DecodedPhotos(*tf.map_fn(one, (image_bytes, orientations, rows), fn_output_signature=signature))


def _read_headers(image_bytes: tf.Tensor, limits: PhotoLimits) -> tuple[tf.Tensor, tf.Operation]:
    """Returns the orientation of each photo, int32 [N], and an op that refuses the first row that is not fit."""

    def read(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        size, orientation, problem = decoding.read_header(encoded)
        count = binary.length(encoded)
        height, width = tf.unstack(exif.upright_size(size, orientation))
        heavy = tf.strings.format(f"{{}} bytes, more than the {limits.max_bytes} that --max_bytes allows", count)
        told = f"{{}}x{{}} pixels, more than the {limits.max_pixels} that --max_pixels allows"
        cases = [
            (count > limits.max_bytes, heavy),
            (problem != "", problem),
            # Sides have at most 32 bits each, and their product has no more than 63.
            (height * width > limits.max_pixels, tf.strings.format(told, (width, height))),
        ]
        return orientation, binary.first_text(cases)

    signature = (tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.string))
    orientations, problems = tf.map_fn(read, image_bytes, fn_output_signature=signature)
    return orientations, refuse_rows("image_bytes", problems)


def refuse_rows(name: str, problems: tf.Tensor) -> tf.Operation:
    """Returns an op that raises InvalidArgumentError for the first row with a problem, which it names.

    Args:
        name: of the input.
        problems: string [N], empty for rows that are well.
    """
    rows = tf.strings.as_string(tf.range(tf.size(problems)))
    told = tf.boolean_mask(tf.strings.join([f"{name}[", rows, "]: ", problems]), problems != "")
    return binary.refuse(tf.concat([told, [""]], axis=0)[0])
