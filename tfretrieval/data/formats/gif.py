"""GIF: the first frame.

TensorFlow's decoder reads all frames, at the memory of all, and takes no notice of transparency. So the first frame is
cut out of the file and put into a GIF of its own, twice: with its colours, and with a palette that is white where it is
transparent and black elsewhere. Source: GIF89a (CompuServe, 1990).
"""

import dataclasses

import tensorflow as tf

from tfretrieval.data.formats import binary, exif

MAGIC = b"GIF8"
_EXTENSION, _IMAGE = 0x21, 0x2C
_CONTROL_LABEL, _CONTROL_BYTES = 0xF9, 4
# Data blocks of one size, as encoders write them but for the last, are stepped over together.
_BLOCKS_PER_STEP = 64
_MOST_STEPS = 4096  # 64 MiB of whole blocks
_MOST_EXTENSIONS, _MOST_EXTENSION_STEPS = 32, 512
_NO_COLOUR = 256
_CUT_SHORT = "a GIF that ends within its first frame, or is cut into too many small blocks"


@dataclasses.dataclass(frozen=True)
class _Frame:
    """Where the first frame of a GIF is; int64 scalars.

    Attributes:
        screen: height and width of the screen that frames lie on, int64 [2].
        descriptor: where its descriptor begins; 0 where there is none.
        place: top and left on the screen, int64 [2].
        size: height and width, int64 [2].
        flags: the descriptor's last byte.
        data: where its data begins: a byte, and data blocks.
        end: behind the empty block that ends the data; 0 where the file ends before.
        transparent: the transparent colour; 256 for none.
    """

    screen: tf.Tensor
    descriptor: tf.Tensor
    place: tf.Tensor
    size: tf.Tensor
    flags: tf.Tensor
    data: tf.Tensor
    end: tf.Tensor
    transparent: tf.Tensor

    @property
    def canvas(self) -> tf.Tensor:
        """Height and width of the photo, int64 [2]: the screen, larger where the frame reaches beyond it."""
        return tf.maximum(self.screen, self.place + self.size)


def header(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Reads a GIF up to the end of its first frame.

    Args:
        encoded: string scalar, a file that begins with `MAGIC`.

    Returns:
        Height and width, int64 [2]; the orientation 1, which GIF does not state, int32 scalar; and what is wrong with
        the file, string scalar, empty for nothing.
    """
    frame = _first_frame(encoded)
    return frame.canvas, tf.constant(exif.UPRIGHT), _problem(frame)


def _problem(frame: _Frame) -> tf.Tensor:
    there = (frame.descriptor > 0) & (tf.reduce_min(frame.size) > 0)
    return binary.first_text([(~there, "a GIF without a frame"), (frame.end == 0, _CUT_SHORT)])


def _table_bytes(flags: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of the colour table that flags tell of, int64 scalar; 0 for none."""
    count = tf.bitwise.left_shift(tf.constant(6, tf.int64), flags & 7)
    return tf.where(flags >= 128, count, 0)


def _first_frame(encoded: tf.Tensor) -> _Frame:
    start = binary.window(encoded, 0, 13)
    at, transparent = _before_frame(encoded, 13 + _table_bytes(start[10]))
    found = binary.window(encoded, at, 10)
    there = found[0] == _IMAGE
    left, top, width, height = (binary.little(found[place : place + 2]) for place in (1, 3, 5, 7))
    data = at + 10 + _table_bytes(found[9])
    return _Frame(
        screen=tf.stack([binary.little(start[8:10]), binary.little(start[6:8])]),
        descriptor=tf.where(there, at, 0),
        place=tf.stack([top, left]),
        size=tf.stack([height, width]),
        flags=found[9],
        data=data,
        end=tf.cond(there, lambda: _blocks_end(encoded, data + 1, _MOST_STEPS), lambda: tf.constant(0, tf.int64)),
        transparent=transparent,
    )


def _before_frame(encoded: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Steps over extensions; returns where the next thing is, and the transparent colour that they state."""

    def step(at, transparent):
        found = binary.window(encoded, at, 8)
        is_control = (found[1] == _CONTROL_LABEL) & (found[2] >= _CONTROL_BYTES)
        stated = is_control & (found[3] % 2 == 1)
        end = _blocks_end(encoded, at + 2, _MOST_EXTENSION_STEPS)
        return tf.where(end > 0, end, binary.length(encoded)), tf.where(stated, found[6], transparent)

    def is_extension(at, _):
        return binary.window(encoded, at, 1)[0] == _EXTENSION

    start = (start, tf.constant(_NO_COLOUR, tf.int64))
    return tf.while_loop(is_extension, step, start, maximum_iterations=_MOST_EXTENSIONS)


def _blocks_end(encoded: tf.Tensor, start: tf.Tensor, most_steps: int) -> tf.Tensor:
    """Returns where data blocks end, behind the empty one, int64 scalar.

    0 where the file ends before, or where that many steps of up to 64 blocks do not lead there.
    """
    file_end, none = binary.length(encoded), tf.constant(0, tf.int64)
    numbers = tf.range(_BLOCKS_PER_STEP, dtype=tf.int64)

    def step(at, _):
        ahead = binary.window(encoded, at, 256 * _BLOCKS_PER_STEP)
        first = ahead[0]
        alike = tf.gather(ahead, (first + 1) * numbers) == first
        after = at + (first + 1) * tf.reduce_sum(tf.math.cumprod(tf.cast(alike, tf.int64)))
        return tf.where(first > 0, after, file_end), tf.where(first > 0, none, at + 1)

    found = tf.while_loop(lambda at, _: at < file_end, step, (start, none), maximum_iterations=most_steps)
    return found[1]


def decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes the first frame of a GIF, laid on white where it is transparent.

    Of a screen that is larger than the frame, the rest is white too where the frame has a transparent colour, and else
    has the palette's first colour, as Pillow shows it.

    Args:
        encoded: string scalar.

    Returns:
        The photo, uint8 [h, w, 3].

    Raises:
        tf.errors.InvalidArgumentError: the file ends within the first frame, or the frame's data is broken.
    """
    frame = _first_frame(encoded)
    with tf.control_dependencies([binary.refuse(_problem(frame))]):
        palette = tf.identity(_palette(encoded, frame))
    frames = tf.io.decode_gif(_two_frames(encoded, frame, palette))
    # TensorFlow leaves out frames behind the first whose data is broken.
    complete = tf.debugging.Assert(tf.shape(frames)[0] == 2, ["a GIF whose first frame is broken"])
    with tf.control_dependencies([complete]):
        photo = tf.maximum(frames[0], frames[1])
    rest = tf.where(frame.transparent < _NO_COLOUR, 255, tf.cast(tf.io.decode_raw(palette, tf.uint8)[:3], tf.int32))
    return tf.cond(
        tf.reduce_all(frame.size == frame.canvas),
        lambda: photo,
        lambda: _on_canvas(photo, frame, tf.cast(rest, tf.uint8)),
    )


def _palette(encoded: tf.Tensor, frame: _Frame) -> tf.Tensor:
    """Returns the frame's colours, a string of 768 bytes: its own, the file's, or else grey levels."""
    flags = binary.window(encoded, 10, 1)[0]
    own, shared = _table_bytes(frame.flags), _table_bytes(flags)
    at = tf.where(own > 0, frame.descriptor + 10, 13)
    table = binary.piece(encoded, at, tf.where(own > 0, own, shared))
    grey = b"".join(bytes([level] * 3) for level in range(256))
    return tf.strings.substr(tf.where(own + shared > 0, table, grey) + b"\0" * 768, 0, 768)


def _two_frames(encoded: tf.Tensor, frame: _Frame, palette: tf.Tensor) -> tf.Tensor:
    """Returns a GIF of two frames with the frame's data: in its colours, and white where transparent, else black."""
    black, white = b"\0" * 3, b"\xff" * 3
    mask = tf.strings.reduce_join(tf.where(tf.range(256, dtype=tf.int64) == frame.transparent, white, black))
    size = binary.written(frame.size[1], 2) + binary.written(frame.size[0], 2)
    flags = binary.written(0x87 | (frame.flags & 0x40), 1)  # a table of 256 colours; rows interlaced or not
    data = binary.piece(encoded, frame.data, frame.end - frame.data)
    descriptor = b"\x2c\0\0\0\0" + size + flags
    start = b"GIF89a" + size + b"\0\0\0"
    return tf.strings.join([start, descriptor, palette, data, descriptor, mask, data, b"\x3b"])


def _on_canvas(photo: tf.Tensor, frame: _Frame, rest: tf.Tensor) -> tf.Tensor:
    """Puts a frame onto its screen, of which the rest has one colour, uint8 [3]."""
    after = frame.canvas - frame.place - frame.size
    around = tf.concat([tf.stack([frame.place, after], axis=1), tf.zeros([1, 2], tf.int64)], axis=0)
    inside = tf.pad(tf.ones_like(photo[..., :1]), around)
    return tf.pad(photo, around) + (1 - inside) * rest
