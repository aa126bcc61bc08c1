"""A detector that also describes what it finds: boxes and a descriptor of each object in one pass."""

import dataclasses

import keras
import tensorflow as tf
from keras import ops

from tfretrieval.errors import InputError
from tfretrieval.layers import POOLINGS
from tfretrieval.layers.masking import unit_length
from tfretrieval.layers.roi_align import roi_align
from tfretrieval.models.detector import find_objects, kind_of

WHOLE = (0.0, 0.0, 1.0, 1.0)  # the box of a whole photo


@dataclasses.dataclass(frozen=True)
class BranchConfig:
    """The embedding branch of a detector; `pipelines.train_objects` has a flag for each.

    Attributes:
        dimension: of the descriptors: the teacher's.
        branch_maps: what boxes are cut out of: pyramid, the maps that the detector's heads read; or trunk, the
            backbone's own.
        branch_level: the level of these maps.
        branch_size: positions along each side of a box's crop.
        branch_layers: convolutions of the branch, over a box's crop.
        branch_width: their channels.
        branch_pooling: a pooling of the registry, over a crop's positions.
    """

    dimension: int = 1280
    branch_maps: str = dataclasses.field(default="pyramid", metadata={"choices": ("pyramid", "trunk")})
    branch_level: int = 4
    branch_size: int = 7
    branch_layers: int = 1
    branch_width: int = 512
    branch_pooling: str = dataclasses.field(default="gem", metadata={"choices": tuple(POOLINGS)})

    def __post_init__(self):
        for name, low in (("dimension", 1), ("branch_size", 1), ("branch_layers", 0), ("branch_width", 1)):
            if getattr(self, name) < low:
                raise InputError(f"--{name}={getattr(self, name)}; {low} or more is wanted.")
        if not 2 <= self.branch_level <= 7:
            raise InputError(f"--branch_level={self.branch_level}; a level from 2 to 7 is wanted.")


@keras.saving.register_keras_serializable(package="tfretrieval")
class GuidedObjectEmbedder(keras.Model):
    """A detector with a branch that describes each box: RoIAlign, convolutions, pooling, a linear layer, L2.

    That an embedding is learned inside a detector, guided by a teacher that sees crops, is of Chen, Davis, Lim, "An
    Analysis of Object Embeddings for Image Retrieval", arXiv 1905.11903. Where the branch stands and what it is made of
    they do not say in what could be read: this branch is this toolkit's.

    Args:
        detector: of `build_detector`.
        branch: the branch's parts.

    Raises:
        InputError: the maps that the branch reads are not there.
    """

    def __init__(self, detector: keras.Model, branch: BranchConfig, **kwargs):
        super().__init__(**kwargs)
        self.detector, self.branch = detector, branch
        name = f"P{branch.branch_level}"
        channels = kind_of(detector).map_channels(detector)[branch.branch_maps]
        if name not in channels:
            raise InputError(
                f"--branch_maps={branch.branch_maps} --branch_level={branch.branch_level}; levels "
                f"{', '.join(found[1:] for found in channels)} are there."
            )
        self.head = _head(branch, channels[name])
        self.built = True  # all of its parts are

    def features(self, photos) -> tuple[dict, dict]:
        """Runs the part that detection and descriptors share.

        Args:
            photos: RGB pixels in [0, 255], [N, H, W, 3].

        Returns:
            The detector's outputs, and its maps by "trunk" and "pyramid" and by level.
        """
        return kind_of(self.detector).features(self.detector, photos)

    def maps(self, photos) -> dict[str, dict]:
        """Returns the maps of `features`, without running the detector's heads."""
        return kind_of(self.detector).maps(self.detector, photos)

    def seen_size(self, height, width) -> tuple:
        """Returns the sides in pixels of what the network runs on for photos of a size."""
        return kind_of(self.detector).seen_size(self.detector, height, width)

    def describe(self, maps: dict, boxes, valid, size: tuple):
        """Describes boxes.

        Args:
            maps: of `features`.
            boxes: float32 [N, K, 4] as shares of the photo's sides: top, left, bottom, right.
            valid: bool [N, K], true where a box counts.
            size: height and width of the photos in pixels, as they were given.

        Returns:
            float32 [N, K, dimension], rows of length 1; zeros where a box does not count.
        """
        chosen = maps[self.branch.branch_maps][f"P{self.branch.branch_level}"]
        shares = kind_of(self.detector).covered(self.detector, *size)
        crops = roi_align(chosen, boxes * ops.stack(shares * 2), valid, self.branch.branch_size)
        count, number = ops.shape(crops)[:2]
        flat = self.head(ops.reshape(crops, (-1, *crops.shape[2:])))
        found = ops.reshape(unit_length(ops.cast(flat, "float32")), (count, number, self.branch.dimension))
        return ops.where(ops.cast(valid, "bool")[..., None], found, 0.0)

    def call(self, inputs):
        """Runs detector and branch on given boxes, as training does.

        Args:
            inputs: "photos" [N, H, W, 3], "boxes" float32 [N, K, 4] and "valid" bool [N, K].

        Returns:
            The detector's outputs, and "object_descriptors" float32 [N, K, dimension].
        """
        photos = inputs["photos"]
        outputs, maps = self.features(photos)
        return {
            **outputs,
            "object_descriptors": self.describe(maps, inputs["boxes"], inputs["valid"], ops.shape(photos)[1:3]),
        }

    def find_and_describe(
        self, photos: tf.Tensor, most: int = 10, least_score: tf.Tensor | float = 0.3, overlap: tf.Tensor | float = 0.5
    ) -> dict[str, tf.Tensor]:
        """Finds the objects of photos and describes them and the whole photos, in one pass.

        Args:
            photos: RGB pixels in [0, 255], [N, H, W, 3].
            most: objects of each photo.
            least_score: objects below it are dropped.
            overlap: see `find_objects`.

        Returns:
            What `find_objects` returns; "object_descriptors" float32 [N, most, dimension], zeros behind `count`; and
            "descriptors" float32 [N, dimension], of the whole photos by the same branch.
        """
        height, width = tf.unstack(tf.shape(photos)[1:3])
        outputs, maps = self.features(photos)
        found = find_objects(self.detector, outputs, (height, width), most, least_score, overlap)
        whole = tf.tile(tf.constant([[WHOLE]]), [tf.shape(photos)[0], 1, 1])
        counted = tf.sequence_mask(found["count"] + 1, most + 1)  # the whole photo stands first
        boxes = tf.concat([whole, found["boxes"]], axis=1)
        described = self.describe(maps, boxes, counted, (height, width))
        return {**found, "descriptors": described[:, 0], "object_descriptors": described[:, 1:]}

    def get_config(self):
        """Returns the arguments that make an equal model."""
        detector = keras.saving.serialize_keras_object(self.detector)
        detector.pop("compile_config", None)  # its losses, which training sets, would only raise a warning on loading
        return {"name": self.name, "detector": detector, "branch": dataclasses.asdict(self.branch)}

    @classmethod
    def from_config(cls, config):
        """Makes the model of a configuration that `get_config` returned."""
        detector = keras.saving.deserialize_keras_object(config["detector"])
        return cls(detector, BranchConfig(**config["branch"]), name=config["name"])


def plain_branch(detector: keras.Model, level: int | None = None) -> GuidedObjectEmbedder:
    """Returns a detector whose boxes are described by its own features: the mean of RoIAlign's crop of the pyramid.

    Args:
        detector: of `build_detector`.
        level: of the pyramid; 4, or the nearest that the detector has, when None.
    """
    there = {int(name[1:]): width for name, width in kind_of(detector).map_channels(detector)["pyramid"].items()}
    level = min(max(4, min(there)), max(there)) if level is None else level
    channels = there.get(level, 1)
    branch = BranchConfig(dimension=channels, branch_level=level, branch_layers=0, branch_pooling="spoc")
    return GuidedObjectEmbedder(detector, branch, name="plain")  # whose linear layer begins as the identity


def _head(branch: BranchConfig, channels: int) -> keras.Model:
    """Returns the branch from crops [M, h, w, C] to vectors [M, dimension].

    Without convolutions and with as many dimensions as channels, it begins as the pooling alone: where the map is the
    teacher's own, the student begins at the teacher's map with boxes as hard attention. This toolkit's choice.
    """
    crops = keras.Input((branch.branch_size, branch.branch_size, channels), name="crops")
    maps = crops
    for number in range(branch.branch_layers):
        layer = keras.layers.Conv2D(branch.branch_width, 3, padding="same", activation="relu", name=f"conv_{number}")
        maps = layer(maps)
    pooled = POOLINGS[branch.branch_pooling](name="pooling")(maps)
    plain = not branch.branch_layers and channels == branch.dimension
    start = "identity" if plain else "glorot_uniform"
    linear = keras.layers.Dense(branch.dimension, kernel_initializer=start, name="linear")
    return keras.Model(crops, linear(pooled), name="branch")
