"""Guided training: a detector's embedding branch learns the descriptors that a teacher gives each object's crop."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfretrieval.data.augmentation import Augmentation
from tfretrieval.data.detection_views import ViewConfig
from tfretrieval.data.record_set import Split
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.losses.distillation.named import NamedDistillation
from tfretrieval.models.guided import GuidedObjectEmbedder
from tfretrieval.training.detector import DetectorTrainer, detector_loss
from tfretrieval.training.detector_config import DetectorTraining
from tfretrieval.training.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True)
class Guidance:
    """How a branch learns from its teacher; `pipelines.train_objects` has a flag for each.

    Attributes:
        distill: losses between student and teacher, joined by +.
        distill_weights: factor of each, joined by +; 1 for each when not given.
        distill_options: arguments of the losses as name=value, joined by commas.
        guidance_weight: weight of their sum beside the detector's loss.
        freeze_detector: train the branch alone; boxes and scores then stay those of the detector, bit for bit.
        branch_ridge: above 0, the linear layer of a branch without convolutions begins where ridge regression brings
            its pooled crops nearest to the teacher's descriptors, with this share of their mean squared length as the
            ridge (1, say).
    """

    distill: str = "regress_l2"
    distill_weights: str | None = None
    distill_options: str | None = None
    guidance_weight: float = 1.0
    freeze_detector: bool = False
    branch_ridge: float = 0.0

    def __post_init__(self):
        if not 0 <= self.branch_ridge < np.inf:
            raise InputError(f"--branch_ridge={self.branch_ridge}; 0, or a number above it, is wanted.")
        if not self.guidance_weight > 0:
            raise InputError(f"--guidance_weight={self.guidance_weight}; more than 0 is wanted.")
        self.named.make()

    @property
    def named(self) -> NamedDistillation:
        """What the flags say of the losses."""
        return NamedDistillation(self.distill, self.distill_weights, self.distill_options)


@dataclasses.dataclass(frozen=True, eq=False)
class ObjectTeacher:
    """The teacher's descriptors of a split's objects.

    Attributes:
        vectors: float32 [C, D], of unit length, one for each object of the split.
        known: bool [C], which objects have one.
    """

    vectors: np.ndarray
    known: np.ndarray

    @classmethod
    def of_crops(cls, crops: Descriptors, split: Split, allow_missing: bool = False) -> "ObjectTeacher":
        """Takes the teacher's descriptors of crops, whose ids are their photo's, "#" and the object's number.

        Args:
            crops: what `pipelines.extract` makes of records with `--crop_objects`.
            split: photos with objects.
            allow_missing: objects without a descriptor guide nothing; by default they are refused.

        Raises:
            InputError: objects lack a descriptor and that is not allowed, or all of them do.
        """
        objects = split.objects
        names = [f"{split.ids[row]}#{number}" for row, number in zip(objects.rows(), objects.numbers, strict=True)]
        place = {name: row for row, name in enumerate(crops.ids)}
        known = np.array([name in place for name in names], bool)
        missing = [name for name, found in zip(names, known, strict=True) if not found]
        if missing and not (allow_missing and known.any()):
            raise InputError(
                f"the teacher lacks {len(missing)} of the {len(names)} objects of the split {split.name!r}, first "
                f"{missing[0]!r}; extract their crops too, or give --allow_missing_teacher."
            )
        vectors = np.zeros((len(names), crops.vectors.shape[1]), np.float32)
        vectors[known] = crops.vectors[[place[name] for name in np.array(names)[known]]]
        return cls(vectors, known)


class GuidedTrainer(DetectorTrainer):
    """Trains a detector and its embedding branch together, or the branch alone.

    The boxes that the branch describes in training are the annotated ones of each view, so that student and teacher
    look at the same objects; the teacher has seen their crops once, as they are in the photos. The loss is the
    detector's plus `guidance_weight` times that between student and teacher. Guidance by a teacher on the same boxes is
    of Chen, Davis, Lim, arXiv 1905.11903; which losses they take is not known: these are this toolkit's.

    Args:
        model: trained in place.
        split: photos with objects.
        validation: photos with objects that tell the average precision; None for none.
        teacher: of the split's objects.
        config: the training.
        guidance: the losses.
        views: how photos and boxes are varied.
        colours: how colours are varied.
        run: where results go.

    Raises:
        InputError: the teacher's dimension is not that of the branch, or there is not one descriptor for each object.
    """

    def __init__(
        self,
        model: GuidedObjectEmbedder,
        split: Split,
        validation: Split | None,
        teacher: ObjectTeacher,
        config: DetectorTraining,
        guidance: Guidance,
        views: ViewConfig,
        colours: Augmentation,
        run: RunDirectory,
    ):
        objects, dimension = len(split.objects.classes), teacher.vectors.shape[1]
        if teacher.vectors.shape[0] != objects:
            raise InputError(
                f"the teacher has {len(teacher.vectors)} descriptors and the split {split.name!r} {objects} objects; "
                "one for each is wanted."
            )
        guidance.named.check_dimensions(model.branch.dimension, dimension)
        self._guidance, self._own_loss = guidance, guidance.named.make()
        self._own_loss.build(model.branch.dimension, dimension, config.seed)
        self._vectors = tf.constant(np.concatenate([teacher.vectors, np.zeros((1, dimension), np.float32)]))
        self._known = tf.constant(np.append(teacher.known, False))
        if guidance.freeze_detector:
            model.detector.trainable = False
        super().__init__(model, split, validation, config, views, colours, run)

    def _trained(self) -> list:
        return [*super()._trained(), *self._own_loss.trainable_variables]

    def _loss(self, photos: tf.Tensor, boxes: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        known = tf.gather(self._known, numbers % len(self._known))
        teacher = tf.gather(self._vectors, numbers % len(self._vectors))
        outputs = self._model({"photos": photos, "boxes": boxes, "valid": known}, training=False)
        student = outputs.pop("object_descriptors")
        rows = lambda values: tf.reshape(values, [-1, values.shape[-1]])  # noqa: E731
        labels = tf.reshape(self._classes(numbers), [-1])
        guided = self._own_loss(labels, rows(student), rows(teacher), tf.cast(tf.reshape(known, [-1]), tf.float32))
        if self._guidance.freeze_detector:
            return self._guidance.guidance_weight * guided
        found = detector_loss(self._detector, photos, boxes, self._classes(numbers), outputs)
        return found + self._guidance.guidance_weight * guided
