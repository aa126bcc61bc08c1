"""The signature `objects`: photos' bytes in, the objects found in each and their descriptors out."""

import dataclasses

import tensorflow as tf

from export.sent_photos import DEFAULT_LIMITS, PhotoLimits, decode_rows
from export.signatures import ServedDescriptor, run_in_groups
from tfretrieval.errors import InputError
from tfretrieval.models.guided import WHOLE, GuidedObjectEmbedder

OBJECTS = "objects"
# A position of a box's crop has hundreds of channels, about the memory of 16 pixels in the network's first maps.
_PIXELS_PER_POSITION = 16


@dataclasses.dataclass(frozen=True)
class ObjectSettings:
    """What an export with objects finds in a photo; `export.saved_model` has a flag for each.

    Attributes:
        objects_most: With objects: objects of a photo, at most; K of the signature.
        objects_least_score: With objects: those below this score are dropped, where a request does not say another.
        objects_overlap: With objects: intersection over union above which the lesser of two of one class is dropped,
            where a request does not say another.
    """

    objects_most: int = 10
    objects_least_score: float = 0.3
    objects_overlap: float = 0.5

    def __post_init__(self):
        if self.objects_most < 1:
            raise InputError(f"--objects_most={self.objects_most}; 1 or more is wanted.")
        for name in ("objects_least_score", "objects_overlap"):
            if not 0 <= getattr(self, name) <= 1:  # so that NaN is refused too
                raise InputError(f"--{name}={getattr(self, name)}; a share from 0 to 1 is wanted.")


class WholePhotos:
    """A guided object embedder as a descriptor network: RGB pixels [n, H, W, 3] -> float32 [n, D], of whole photos.

    Args:
        model: the embedder.

    Attributes:
        variables: the embedder's.
        output_shape: (None, D).
    """

    def __init__(self, model: GuidedObjectEmbedder):
        self._model, self.variables, self.output_shape = model, model.variables, (None, model.branch.dimension)

    def __call__(self, photos: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Describes whole photos as `find_and_describe` does, without the detector's heads."""
        maps = self._model.maps(tf.cast(photos, tf.float32))
        count, height, width = tf.unstack(tf.shape(photos)[:3])
        boxes = tf.tile(tf.constant([[WHOLE]]), [count, 1, 1])
        return self._model.describe(maps, boxes, tf.ones([count, 1], tf.bool), (height, width))[:, 0]


class ServedObjects(ServedDescriptor):
    """A guided object embedder with the signatures that TensorFlow Serving calls: those of any network, and `objects`.

    Args:
        model: the embedder.
        longer_side: pixels that photos' longer sides are resized to, never enlarged.
        card: JSON text that says what the model is.
        classes: names of the detector's classes.
        settings: what is found.
        limits: which photos are refused.

    Attributes:
        objects: the signature's function; see `describe_objects`, of which the two last arguments may be left out.
    """

    def __init__(
        self,
        model: GuidedObjectEmbedder,
        longer_side: int,
        card: str,
        classes: tuple[str, ...],
        settings: ObjectSettings,
        limits: PhotoLimits = DEFAULT_LIMITS,
    ):
        super().__init__(WholePhotos(model), longer_side, card, limits)
        self._model, self._classes, self._settings = model, classes, settings
        least_score, overlap = (
            tf.constant(value, tf.float32) for value in (settings.objects_least_score, settings.objects_overlap)
        )

        # Tensors as defaults are what TensorFlow writes into the signature, where TensorFlow Serving looks for inputs
        # that a request leaves out. Names in the order of the alphabet: TensorFlow sorts them.
        def objects(image_bytes, least_score=least_score, overlap=overlap):
            return self.describe_objects(image_bytes, least_score, overlap)

        threshold = tf.TensorSpec(None, tf.float32)
        signature = [tf.TensorSpec([None], tf.string, name="image_bytes"), threshold, threshold]
        self.objects = tf.function(objects, input_signature=signature)

    @property
    def functions(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
        """The signatures by the name that a request calls them by."""
        return {**super().functions, OBJECTS: self.objects}

    def describe_objects(self, image_bytes: tf.Tensor, least_score: tf.Tensor, overlap: tf.Tensor) -> dict:
        """Finds the objects of photos and describes them. Each row's result is that of its photo alone.

        Args:
            image_bytes: string [N]; see `serving_default`.
            least_score: float32 scalar or [N], in [0, 1]: objects below it are dropped.
            overlap: float32 scalar or [N], in [0, 1]: intersection over union above which the lesser of two objects of
                one class is dropped.

        Returns:
            `descriptors` float32 [N, D] of the whole photos; `object_descriptors` float32 [N, K, D]; `boxes` float32
            [N, K, 4] in pixels of the photo as it was sent, turned upright: top, left, bottom, right; `scores` float32
            [N, K]; `classes` int32 [N, K] and `class_names` string [N, K]; and `count` int32 [N]. Best objects first;
            zeros and empty names behind `count`.

        Raises:
            tf.errors.InvalidArgumentError: a row is not an image, its data is broken, or a threshold is out of range.
        """
        photos = decode_rows(image_bytes, self._longer_side, self._limits)
        least_scores = _for_each(least_score, "least_score", tf.size(image_bytes))
        overlaps = _for_each(overlap, "overlap", tf.size(image_bytes))
        sides = tf.cast(tf.tile(photos.given, [1, 2]), tf.float32)

        def describe(pixels: tf.Tensor, rows: tf.Tensor) -> dict[str, tf.Tensor]:
            at = least_scores[rows[0]], overlaps[rows[0]]
            found = self._model.find_and_describe(tf.cast(pixels, tf.float32), self._settings.objects_most, *at)
            return {**found, "boxes": found["boxes"] * tf.gather(sides, rows)[:, tf.newaxis]}

        keys = _equal_rows(photos.sizes, *(tf.bitcast(each, tf.int32)[:, None] for each in (least_scores, overlaps)))
        found = run_in_groups(photos, keys, describe, self._row(), self._cost)
        counted = tf.sequence_mask(found["count"], self._settings.objects_most)
        names = tf.gather(tf.constant(self._classes), found["classes"])
        return {**found, "class_names": tf.where(counted, names, "")}

    def _row(self) -> dict[str, tf.TensorSpec]:
        most, dimension = self._settings.objects_most, self._dimension
        return {
            "descriptors": tf.TensorSpec([dimension], tf.float32),
            "object_descriptors": tf.TensorSpec([most, dimension], tf.float32),
            "boxes": tf.TensorSpec([most, 4], tf.float32),
            "scores": tf.TensorSpec([most], tf.float32),
            "classes": tf.TensorSpec([most], tf.int32),
            "count": tf.TensorSpec([], tf.int32),
        }

    def _cost(self, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        padded_height, padded_width = self._model.seen_size(height, width)
        positions = (self._settings.objects_most + 1) * self._model.branch.branch_size**2
        return padded_height * padded_width + positions * _PIXELS_PER_POSITION


def _for_each(threshold: tf.Tensor, name: str, photos: tf.Tensor) -> tf.Tensor:
    """Returns a threshold for each photo, float32 [N], of one for all or one for each."""
    alone = tf.equal(tf.rank(threshold), 0)
    fits = tf.logical_or(alone, tf.reduce_all(tf.equal(tf.shape(threshold), [photos])))
    told = tf.strings.format(f"{name}: shape {{}}; a scalar or one for each photo is wanted", tf.shape(threshold))
    with tf.control_dependencies([tf.debugging.Assert(fits, [told])]):
        each = tf.broadcast_to(threshold, [photos])
    inside = tf.reduce_all(tf.logical_and(each >= 0, each <= 1))  # false for NaN
    told = tf.strings.format(f"{name}: {{}}; a share from 0 to 1 is wanted", threshold)
    with tf.control_dependencies([tf.debugging.Assert(inside, [told])]):
        return tf.identity(each)


def _equal_rows(*columns: tf.Tensor) -> tf.Tensor:
    """Numbers the different rows of tables of whole numbers, int32 [N, ...]: int32 [N], equal where all are equal."""
    table = tf.strings.as_string(tf.concat(columns, axis=1))
    return tf.unique(tf.strings.reduce_join(table, axis=1, separator=" ")).idx
