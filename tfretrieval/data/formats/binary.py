"""Bytes and whole numbers out of a string tensor; reading beyond its end gives zeros, and never fails."""

from collections.abc import Callable, Sequence

import tensorflow as tf


def length(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the number of bytes of a string, int64 scalar."""
    return tf.cast(tf.strings.length(encoded), tf.int64)


def piece(encoded: tf.Tensor, start, count) -> tf.Tensor:
    """Cuts a string.

    Args:
        encoded: string scalar.
        start: int64 scalar, at least 0; a start behind the end gives an empty string.
        count: int64 scalar, at least 0.

    Returns:
        string scalar, shorter than `count` where the string ends earlier.
    """
    start = tf.minimum(tf.cast(start, tf.int64), length(encoded))  # TensorFlow fails behind the end
    return tf.strings.substr(encoded, start, tf.cast(count, tf.int64))


def window(encoded: tf.Tensor, start, count: int) -> tf.Tensor:
    """Returns `count` bytes from `start` on, int64 [count] in [0, 255]; zeros where the string has none.

    Args:
        encoded: string scalar.
        start: int64 scalar, at least 0.
        count: number of bytes.
    """
    found = tf.io.decode_raw(piece(encoded, start, count), tf.uint8, fixed_length=count)
    return tf.cast(found, tf.int64)


def is_text(found: tf.Tensor, text: bytes) -> tf.Tensor:
    """Returns whether the first of these bytes, int64 [n], are a text: bool scalar."""
    return tf.reduce_all(found[: len(text)] == tf.constant(list(text), tf.int64))


def little(found: tf.Tensor) -> tf.Tensor:
    """Returns the whole number that bytes, int64 [n, ...] with n <= 7, write with the lowest first: int64 [...]."""
    return _weighted(found, range(found.shape[0]))


def big(found: tf.Tensor) -> tf.Tensor:
    """Returns the whole number that bytes, int64 [n, ...] with n <= 7, write with the highest first: int64 [...]."""
    return _weighted(found, reversed(range(found.shape[0])))


def _weighted(found: tf.Tensor, places) -> tf.Tensor:
    weights = tf.constant([1 << 8 * place for place in places], tf.int64)
    return tf.reduce_sum(found * tf.reshape(weights, [-1] + [1] * (found.shape.rank - 1)), axis=0)


def written(number, count: int) -> tf.Tensor:
    """Writes a whole number of `count` bytes, the lowest first: int64 scalar >= 0 -> string scalar."""
    table = tf.constant([bytes([value]) for value in range(256)])
    digits = [tf.cast(number, tf.int64) // (1 << 8 * place) % 256 for place in range(count)]
    return tf.strings.reduce_join(tf.gather(table, tf.stack(digits)))


def first_text(cases: Sequence[tuple[tf.Tensor, str | tf.Tensor]]) -> tf.Tensor:
    """Returns the text, string [...], of the first case, (bool [...], text), that is true; empty where none is."""
    found = tf.constant("")
    for case, text in reversed(cases):
        found = tf.where(case, text, found)
    return found


def refuse(problem: tf.Tensor) -> tf.Operation:
    """Returns an op that raises InvalidArgumentError with a text, string scalar, unless it is empty."""
    return tf.debugging.Assert(problem == "", [problem])


def apart(function: Callable[[tf.Tensor], object]) -> Callable[[tf.Tensor], object]:
    """Makes a function of a string scalar one call in the graph, whose ops cost nothing where it is not called.

    TensorFlow otherwise puts all branches of a condition into one graph, and steps over each op of those not taken.
    Only for functions that never fail: while an error travels out of such a call, others are cancelled, and it is their
    CANCELLED that a client may read.
    """
    text = tf.TensorSpec([], tf.string)
    return tf.function(function, [text], autograph=False, experimental_attributes={"_noinline": True})
