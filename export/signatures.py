"""The served graph: image bytes of any sizes in, descriptors out, in standard TensorFlow ops only."""

import keras
import tensorflow as tf

from tfretrieval.data import decoding

# Photos of one shape run together up to this many pixels: 113 photos at 192 px, 4 at 1,024 px.
PIXELS_PER_BATCH = 1 << 22
_MAGIC = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "GIF": b"GIF8", "BMP": b"BM"}


class ServedDescriptor(tf.Module):
    """A descriptor network with the signature that TensorFlow Serving calls.

    Args:
        model: the network, RGB pixels uint8 [n, h, w, 3] -> [n, D], rows of length 1.
        longer_side: pixels that photos' longer sides are resized to, never enlarged.
        card: JSON text that says what the model is; served as it is.
    """

    def __init__(self, model: keras.Model, longer_side: int, card: str):
        super().__init__()
        self._state = [variable.value for variable in model.variables]  # what the SavedModel stores
        self._network, self._longer_side, self._card = model, longer_side, card
        self._dimension = int(model.output_shape[-1])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving_default(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Describes photos.

        Each row's descriptor is that of its photo alone: photos are grouped by their exact shape after the resize, so
        that nothing is padded.

        Args:
            image_bytes: string [N], JPEG, PNG, GIF (first frame) or BMP files, of any sizes; N may be 0.

        Returns:
            `descriptors`: float32 [N, D], rows of length 1, in the order of the input.

        Raises:
            tf.errors.InvalidArgumentError: a row is not an image, or its data is broken.
        """
        pixels, sizes = self._decode(image_bytes)
        return {"descriptors": self._describe(pixels, sizes)}

    @tf.function(input_signature=[])
    def card(self) -> dict[str, tf.Tensor]:
        """Says what the model is, so that descriptors made through a server can be traced to it.

        Returns:
            `card`: string scalar, a JSON object with dimension, image_size and model_sha256.
        """
        return {"card": tf.constant(self._card)}

    def _decode(self, image_bytes: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Decodes and resizes each row: flat pixels, ragged uint8 [N, (h * w * 3)], and sizes int32 [N, 2]."""

        def decode(numbered: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            row, encoded = numbered
            known = [tf.strings.substr(encoded, 0, len(magic)) == magic for magic in _MAGIC.values()]
            message = tf.strings.format(f"image_bytes[{{}}]: not an image; one of {', '.join(_MAGIC)} is wanted", row)
            with tf.control_dependencies([tf.debugging.Assert(tf.reduce_any(known), [message])]):
                photo = decoding.decode_photo(tf.identity(encoded), self._longer_side)
            return tf.reshape(photo, [-1]), tf.shape(photo)[:2]

        signature = (tf.RaggedTensorSpec([None], tf.uint8, ragged_rank=0), tf.TensorSpec([2], tf.int32))
        return tf.map_fn(decode, (tf.range(tf.size(image_bytes)), image_bytes), fn_output_signature=signature)

    def _describe(self, pixels: tf.RaggedTensor, sizes: tf.Tensor) -> tf.Tensor:
        """Runs the network over groups of photos of one shape, and puts the rows back in order."""
        count = tf.shape(sizes)[0]
        codes = tf.cast(sizes[:, 0], tf.int64) * (1 << 32) + tf.cast(sizes[:, 1], tf.int64)
        order = tf.argsort(codes, stable=True)
        codes = tf.gather(codes, order)

        def describe_group(start: tf.Tensor, descriptors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            height, width = tf.unstack(sizes[order[start]])
            most = tf.maximum(1, PIXELS_PER_BATCH // (height * width))
            group_end = tf.searchsorted(codes, codes[start : start + 1], side="right")[0]
            stop = tf.minimum(start + most, group_end)
            rows = order[start:stop]
            photos = tf.reshape(tf.gather(pixels, rows).flat_values, [stop - start, height, width, 3])
            described = tf.cast(self._network(photos, training=False), tf.float32)
            return stop, tf.tensor_scatter_nd_update(descriptors, rows[:, tf.newaxis], described)

        _, descriptors = tf.while_loop(
            lambda start, _: start < count,
            describe_group,
            (tf.constant(0), tf.zeros([count, self._dimension])),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, self._dimension])),
            parallel_iterations=1,
        )
        return descriptors
