"""The served graph: photos of any sizes in, descriptors out, in standard TensorFlow ops only."""

from collections.abc import Callable

import keras
import tensorflow as tf

from export.delg_signature import DELG, choose_scales, describe_scales
from export.query_signature import QUERY, decode_crops
from export.sent_photos import DEFAULT_LIMITS, DecodedPhotos, PhotoLimits, decode_rows
from tfretrieval.data import decoding

# Photos of one shape run together up to this many pixels: 113 photos at 192 px, 4 at 1,024 px.
PIXELS_PER_BATCH = 1 << 22
IMAGES = "images"


class ServedDescriptor(tf.Module):
    """A descriptor network with the signatures that TensorFlow Serving calls.

    Args:
        model: the network, RGB pixels uint8 [n, h, w, 3] -> [n, D], rows of length 1: a callable of (pixels,
            training=False) with `variables` and `output_shape`.
        longer_side: pixels that photos' longer sides are resized to, never enlarged.
        card: JSON text that says what the model is; served as it is.
        limits: which photos are refused.
    """

    def __init__(self, model: keras.Model, longer_side: int, card: str, limits: PhotoLimits = DEFAULT_LIMITS):
        super().__init__()
        self._state = [variable.value for variable in model.variables]  # what the SavedModel stores
        self._longer_side, self._card, self._limits = longer_side, card, limits
        self._dimension = int(model.output_shape[-1])

        def describe(pixels: tf.Tensor) -> tf.Tensor:
            return tf.cast(model(pixels, training=False), tf.float32)

        # One function for all signatures: its graph is traced and saved once.
        pixels = tf.TensorSpec([None, None, None, 3], tf.uint8)
        self._network = tf.function(describe, input_signature=[pixels], autograph=False)

    @property
    def functions(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
        """The signatures by the name that a request calls them by."""
        described = {"serving_default": self.serving_default, QUERY: self.query, IMAGES: self.images, DELG: self.delg}
        return {**described, "card": self.card}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def serving_default(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Describes photos.

        Each row's descriptor is that of its photo alone: photos are grouped by their exact shape after the resize, so
        that nothing is padded.

        Args:
            image_bytes: string [N], JPEG, PNG, WebP, BMP or GIF files, of any sizes; N may be 0. They are turned
                upright by their Exif orientation; of animations the first frame is taken.

        Returns:
            `descriptors`: float32 [N, D], rows of length 1, in the order of the input.

        Raises:
            tf.errors.InvalidArgumentError: a row is not an image, is beyond the limits, or its data is broken.
        """
        return self._describe(decode_rows(image_bytes, self._longer_side, self._limits))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="image_bytes"),
            tf.TensorSpec([None, 4], tf.float32, name="boxes"),
        ],
        autograph=False,
    )
    def query(self, image_bytes: tf.Tensor, boxes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Describes what is in a box of each photo, as the revisited benchmarks describe their queries.

        Args:
            image_bytes: string [N]; see `serving_default`.
            boxes: float32 [N, 4], left, top, right, bottom in pixels of the upright photos; see `decode_crops`.

        Returns:
            `descriptors`: float32 [N, D], rows of length 1.

        Raises:
            tf.errors.InvalidArgumentError: see `decode_crops`.
        """
        return self._describe(decode_crops(image_bytes, boxes, self._longer_side, self._limits))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")], autograph=False)
    def images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Describes decoded photos of one size, resized as encoded ones are.

        Args:
            images: uint8 [N, H, W, 3], upright, RGB; N may be 0.

        Returns:
            `descriptors`: float32 [N, D], rows of length 1.

        Raises:
            tf.errors.InvalidArgumentError: the photos have no pixels.
        """
        given = tf.shape(images)
        told = tf.strings.format("images: shape {}; photos of at least a pixel are wanted", given)
        fits = tf.logical_or(given[0] == 0, tf.reduce_min(given[1:3]) > 0)
        with tf.control_dependencies([tf.debugging.Assert(fits, [told])]):
            size = decoding.target_size(tf.maximum(given[1:3], 1), self._longer_side)
        pixels = tf.map_fn(
            lambda image: tf.reshape(decoding.resize_photo(image, size), [-1]),
            images,
            fn_output_signature=tf.RaggedTensorSpec([None], tf.uint8, ragged_rank=0),
        )
        rows = tf.repeat(size[tf.newaxis], given[0], axis=0)
        return self._describe(DecodedPhotos(pixels, rows, rows))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 3], tf.uint8, name="input_image"),
            tf.TensorSpec([None], tf.float32, name="input_scales"),
            tf.TensorSpec([None], tf.int32, name="input_global_scales_ind"),
        ],
        autograph=False,
    )
    def delg(
        self, input_image: tf.Tensor, input_scales: tf.Tensor, input_global_scales_ind: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Describes one photo at several scales, under the names of DELG's models; see `describe_scales`.

        Args:
            input_image: uint8 [h, w, 3].
            input_scales: float32 [S].
            input_global_scales_ind: int32 [G], which of the scales are described.

        Returns:
            `global_descriptors`: float32 [G, D], rows of length 1.

        Raises:
            tf.errors.InvalidArgumentError: see `choose_scales`; a resized photo may have as many pixels as
                `PIXELS_PER_BATCH`, or as a square photo of the evaluation's size where that is more.
        """
        most = max(PIXELS_PER_BATCH, self._longer_side**2)
        chosen = choose_scales(input_image, input_scales, input_global_scales_ind, most)
        return {"global_descriptors": describe_scales(self._network, self._dimension, input_image, chosen)}

    @tf.function(input_signature=[])
    def card(self) -> dict[str, tf.Tensor]:
        """Says what the model is, so that descriptors made through a server can be traced to it.

        Returns:
            `card`: string scalar, a JSON object with dimension, image_size and model_sha256.
        """
        return {"card": tf.constant(self._card)}

    def _describe(self, photos: DecodedPhotos) -> dict[str, tf.Tensor]:
        """Describes decoded photos, those of one size together."""
        sizes = tf.cast(photos.sizes, tf.int64)

        def describe(pixels: tf.Tensor, _: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"descriptors": self._network(pixels)}

        row = {"descriptors": tf.TensorSpec([self._dimension], tf.float32)}
        return run_in_groups(photos, sizes[:, 0] * (1 << 32) + sizes[:, 1], describe, row, self._cost)

    def _cost(self, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        """Returns how many of `PIXELS_PER_BATCH` a photo takes up."""
        return height * width


def run_in_groups(
    photos: DecodedPhotos,
    keys: tf.Tensor,
    run: Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]],
    row: dict[str, tf.TensorSpec],
    cost: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> dict[str, tf.Tensor]:
    """Runs a network over groups of photos, and puts the rows back in order.

    Args:
        photos: N photos.
        keys: int32 or int64 [N]; photos with equal keys run together and must be of one size.
        run: from pixels uint8 [n, h, w, 3] and their rows int32 [n] to tensors [n, ...] by name.
        row: what `run` gives for one photo, by name.
        cost: how many of `PIXELS_PER_BATCH`, which no group exceeds, a photo of a height and width takes up.

    Returns:
        The tensors [N, ...] by name.
    """
    count = tf.shape(photos.sizes)[0]
    order = tf.argsort(keys, stable=True)
    keys = tf.gather(keys, order)

    def run_group(start: tf.Tensor, found: dict[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        height, width = tf.unstack(photos.sizes[order[start]])
        most = tf.maximum(1, PIXELS_PER_BATCH // cost(height, width))
        group_end = tf.searchsorted(keys, keys[start : start + 1], side="right")[0]
        stop = tf.minimum(start + most, group_end)
        rows = order[start:stop]
        pixels = tf.reshape(tf.gather(photos.pixels, rows).flat_values, [stop - start, height, width, 3])
        for name, values in run(pixels, rows).items():
            found = {**found, name: tf.tensor_scatter_nd_update(found[name], rows[:, tf.newaxis], values)}
        return stop, found

    _, found = tf.while_loop(
        lambda start, _: start < count,
        run_group,
        (tf.constant(0), {name: tf.zeros([count, *spec.shape], spec.dtype) for name, spec in row.items()}),
        shape_invariants=(
            tf.TensorShape([]),
            {name: tf.TensorShape([None, *spec.shape]) for name, spec in row.items()},
        ),
        parallel_iterations=1,
    )
    return found
