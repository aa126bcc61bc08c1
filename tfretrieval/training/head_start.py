"""A student's last layer, begun in closed form."""

import dataclasses
from pathlib import Path

import keras
import numpy as np

from tfretrieval import console
from tfretrieval.data.record_set import Split
from tfretrieval.errors import InputError
from tfretrieval.extraction import Extractor
from tfretrieval.models.guided import GuidedObjectEmbedder
from tfretrieval.object_descriptors import ObjectBoxes
from tfretrieval.object_extraction import ObjectExtractor
from tfretrieval.training.config import TrainingConfig
from tfretrieval.training.guided import ObjectTeacher
from tfretrieval.training.instances import TrainingData
from tfretrieval.training.teacher import TeacherVectors
from tfretrieval.whitening import Whitening
from tfretrieval.whitening.to_teacher import fit_to_teacher


def check_head(model: keras.Model, teacher: int) -> None:
    """Checks that a network ends in a linear layer to the teacher's dimension, from no fewer.

    Raises:
        InputError: it does not.
    """
    layer = next((layer for layer in model.layers if layer.name == "whitening"), None)
    if layer is None or layer.kernel.shape[1] != teacher:
        found = "the student has none" if layer is None else f"the student's has {layer.kernel.shape[1]}"
        raise InputError(
            f"--head_ridge begins a linear layer to the teacher's {teacher} dimensions, and {found}; "
            f"--whitening={teacher} is wanted."
        )
    if layer.kernel.shape[0] < teacher:
        raise InputError(
            f"--head_ridge: the student pools {layer.kernel.shape[0]} dimensions and the teacher has {teacher}; no "
            "more than the student's are wanted."
        )


def begin_at_teacher(
    model: keras.Model, vectors: TeacherVectors, data: TrainingData, config: TrainingConfig, ridge: float, kept: Path
) -> None:
    """Sets the linear layer of a network to the map that brings it nearest to a teacher; see `fit_to_teacher`.

    Args:
        model: the network, as training begins with it; one that `check_head` lets pass.
        vectors: the teacher's.
        data: the photos, those that train with a teacher's descriptor being fitted to.
        config: `image_size` and `extraction_batch` are read.
        ridge: see `fit_to_teacher`.
        kept: npz file that the map is written to, and read from when it is there: a resumed training begins alike.
    """
    if not kept.is_file():
        rows = data.rows[vectors.of(data.rows)[1]]
        pooled = keras.Model(model.input, model.get_layer("pooled").output)
        bar = lambda total: console.progress(None, "fitting the head", total=total)  # noqa: E731
        own = Extractor(pooled, config.image_size, config.extraction_batch)(data.split, rows, bar)
        wanted = vectors.of(rows)[0]
        lengths = np.linalg.norm(wanted, axis=1, keepdims=True)
        partial = kept.with_name(f"partial-{kept.name}")
        fit_to_teacher(own, wanted / np.maximum(lengths, 1e-12), ridge).save(partial)
        partial.replace(kept)
    layer, fitted = model.get_layer("whitening"), Whitening.load(kept)
    layer.set_weights([fitted.projection.T, -fitted.projection @ fitted.mean])


def begin_branch_at_teacher(
    model: GuidedObjectEmbedder, teacher: ObjectTeacher, split: Split, longer_side: int, ridge: float, kept: Path
) -> None:
    """Sets the linear layer of a branch without convolutions to the map that brings it nearest to its teacher.

    Student and teacher see the annotated boxes of the photos as they are. The map is drawn towards the identity where
    the branch pools as many channels as the teacher has dimensions, else towards zero; see `fit_to_teacher`.

    Args:
        model: the network, as training begins with it.
        teacher: of the split's objects.
        split: photos with objects.
        longer_side: of the photos in pixels.
        ridge: see `fit_to_teacher`.
        kept: npz file that the map is written to, and read from when it is there: a resumed training begins alike.

    Raises:
        InputError: the branch has convolutions, or the teacher has more dimensions than it pools channels.
    """
    if model.branch.branch_layers:
        raise InputError(
            f"--branch_ridge begins the linear layer of a branch without convolutions, and --branch_layers="
            f"{model.branch.branch_layers}; --branch_layers=0 is wanted."
        )
    layer = model.head.get_layer("linear")
    channels = int(layer.kernel.shape[0])
    if not kept.is_file():
        pooled = GuidedObjectEmbedder(model.detector, dataclasses.replace(model.branch, dimension=channels))
        bar = lambda total: console.progress(None, "fitting the branch", total=total)  # noqa: E731
        names = tuple(map(str, range(1 + int(split.objects.classes.max()))))
        boxes = ObjectBoxes.annotated(split.objects, names)
        own = ObjectExtractor(pooled, longer_side).describe(split, boxes, bar).vectors[teacher.known]
        near = channels == teacher.vectors.shape[1]
        partial = kept.with_name(f"partial-{kept.name}")
        fit_to_teacher(own, teacher.vectors[teacher.known], ridge, near).save(partial)
        partial.replace(kept)
    fitted = Whitening.load(kept)
    layer.set_weights([fitted.projection.T, -fitted.projection @ fitted.mean])
