"""From a trained network to a version folder of a SavedModel, and back."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from export.described_objects import ObjectArrays
from export.object_signature import OBJECTS, ObjectSettings, ServedObjects, WholePhotos, describe_signature
from export.signatures import ServedDescriptor
from tfretrieval import files, provenance
from tfretrieval.errors import InputError
from tfretrieval.layers import MultiScale
from tfretrieval.models.descriptor import load_descriptor
from tfretrieval.models.guided import GuidedObjectEmbedder
from tfretrieval.training.run_directory import RunDirectory

CARD = "descriptor.json"


@dataclasses.dataclass(frozen=True)
class ExportSource:
    """What is exported.

    Attributes:
        model: the network; a `GuidedObjectEmbedder` is exported with the signature `objects` too.
        image_size: longer side in pixels that photos are resized to.
        sha256: hash of the `.keras` file.
        training: the run's description; empty for a bare `.keras` file.
    """

    model: keras.Model
    image_size: int
    sha256: str
    training: dict

    def __post_init__(self):
        if self.finds_objects:
            self.classes  # noqa: B018 - refuses names that do not fit
        elif not isinstance(self.model.output_shape, tuple):
            raise InputError(
                f"the network {self.model.name!r} gives {len(self.model.output_shape)} outputs instead of one "
                "descriptor of a photo; a run of pipelines.train or pipelines.train_objects is wanted."
            )

    @property
    def finds_objects(self) -> bool:
        """Whether the network describes objects too."""
        return isinstance(self.model, GuidedObjectEmbedder)

    @property
    def network(self) -> keras.Model | WholePhotos:
        """What describes whole photos: RGB pixels [n, h, w, 3] -> [n, D]."""
        return WholePhotos(self.model) if self.finds_objects else self.model

    @property
    def dimension(self) -> int:
        """Dimension D of the descriptors."""
        return int(self.network.output_shape[-1])

    @property
    def card(self) -> dict:
        """What the model tells of itself to those who use its descriptors.

        `dimension`, `image_size`, `model_sha256`; `scales`, the factors on a photo's sides that it combines; and
        `trained_on`, names of what it was trained on as far as its run knows them: the record set's, and an imported
        checkpoint's file name and published training set.
        """
        return {
            "dimension": self.dimension,
            "image_size": self.image_size,
            "model_sha256": self.sha256,
            "scales": _scales(self.model) or [1.0],
            "trained_on": _trained_on(self.training),
        }

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of objects: the run's; "class 0" and so on for a bare `.keras` file.

        Raises:
            InputError: the run names another number of classes than the network has.
        """
        wanted = self.model.detector.num_classes
        names = tuple(self.training.get("classes", (f"class {number}" for number in range(wanted))))
        if len(names) != wanted:
            raise InputError(f"run.json names {len(names)} classes and the network has {wanted}; as many are wanted.")
        return names


# Checkpoints of these formats were trained on Google Landmarks: SOLAR's on its first version, CVNet's on the clean second.
_PUBLISHED_TRAINING = {"solar": "google-landmarks-v1", "cvnet": "google-landmarks-v2-clean"}


def _scales(model: keras.Model) -> list[float]:
    """Returns the scales of a network that describes several, wherever the layer is; none where it does not."""
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, MultiScale):
            return list(layer.scales)
        if found := _scales(layer):
            return found
    return []


def _trained_on(training: Mapping) -> list[str]:
    """Returns names of training sets that a run's description tells."""
    imported, flags = training.get("imported") or {}, training.get("flags") or {}
    names = [training.get("records")]
    if imported:
        names += [Path(str(flags.get("checkpoint", ""))).name, _PUBLISHED_TRAINING.get(imported.get("format"))]
    return [name for name in names if name]


def load_source(checkpoint: str | Path, which: str = "best", image_size: int = 0) -> ExportSource:
    """Loads what to export.

    Args:
        checkpoint: a run directory, or a `.keras` file.
        which: network of the run: "best", "last" or "untrained".
        image_size: longer side in pixels; 0 takes the run's.

    Raises:
        InputError: neither a run nor a model, a size that is missing or not above 0.
    """
    path = Path(checkpoint)
    if image_size < 0:
        raise InputError(f"--image_size={image_size}; pixels, or 0 for the run's own size, are wanted.")
    if path.suffix == ".keras":
        if not image_size:
            raise InputError(f"--checkpoint={path} is a model without its run; --image_size is wanted with it.")
        return ExportSource(load_descriptor(path), image_size, files.sha256(path), {})
    run = RunDirectory.load(path)
    model, training = run.load_model(which), run.read_description()
    # A detector's run says 0 where whole photos are as large as its training views.
    own_size = training["training"]["image_size"] or training["protocol"]["image_size"]
    return ExportSource(model, image_size or own_size, files.sha256(run.model(which)), training)


def write_version(
    source: ExportSource, output: str | Path, flags: Mapping[str, object], objects: ObjectSettings | None = None
) -> Path:
    """Writes the next version of a model.

    The version folder appears whole, so that a server which polls its parent never loads half of one.

    Args:
        source: what to export.
        output: the model's folder; versions are 1, 2, ...
        flags: what to note in the version's `descriptor.json`.
        objects: what the signature `objects` finds; its defaults when not given.

    Returns:
        The version folder.

    Raises:
        InputError: the output is a file, or `objects` says something and the network finds none.
    """
    if not source.finds_objects and objects not in (None, ObjectSettings()):
        raise InputError("--objects_... was given and the network finds no objects; pipelines.train_objects makes one.")
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise InputError(f"--output={output} is a file; a folder for model versions is wanted.")
    versions = [int(path.name) for path in output.glob("*") if path.is_dir() and path.name.isdecimal()]
    version = output / str(max(versions, default=0) + 1)
    data = {"model": source.sha256, **source.training.get("data", {})}
    head = provenance.header(flags, source.training.get("seed"), data, {"image_size": source.image_size})
    card = source.card
    if source.finds_objects:
        card["objects"] = {**dataclasses.asdict(objects or ObjectSettings()), "classes": list(source.classes)}
        served = ServedObjects(
            source.model, source.image_size, json.dumps(card), source.classes, objects or ObjectSettings()
        )
        head = {**_told(served, card), **head}
    else:
        served = ServedDescriptor(source.model, source.image_size, json.dumps(card))
    with files.atomic_directory(version, marker="saved_model.pb") as partial:
        tf.saved_model.save(served, str(partial), signatures=served.functions)
        files.write_json(partial / CARD, {"descriptor": card, **head, "training": source.training})
    return version


def _told(served: ServedObjects, card: dict) -> dict:
    """Returns what `descriptor.json` tells of the signatures of an export with objects."""
    optional = {"least_score": card["objects"]["objects_least_score"], "overlap": card["objects"]["objects_overlap"]}
    tensors = {
        name: describe_signature(function, optional if name == OBJECTS else {})
        for name, function in served.functions.items()
    }
    return {"signatures": tensors}


def serving_command(output: str | Path, name: str = "descriptor") -> str:
    """Returns the shell command that hosts a model folder in TensorFlow Serving's public image."""
    folder = shlex.quote(f"type=bind,source={Path(output).resolve()},target=/models/{name}")
    return f"docker run --rm -p 8500:8500 -p 8501:8501 --mount {folder} -e MODEL_NAME={name} tensorflow/serving"


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A version folder, loaded in this process.

    Attributes:
        version: the folder.
        card: dimension, image_size, model_sha256, and what is said of objects, of its `descriptor.json`; empty where
            it has none.
        loaded: what TensorFlow loaded; it owns the variables.
    """

    version: Path
    card: dict
    loaded: object

    @classmethod
    def load(cls, folder: str | Path) -> "ServedModel":
        """Loads a version folder, or the newest version below a model's folder.

        Raises:
            InputError: there is no SavedModel, or it has no signature from image_bytes to descriptors.
        """
        folder = Path(folder)
        version = folder if (folder / "saved_model.pb").is_file() else _newest(folder)
        try:
            loaded = tf.saved_model.load(str(version))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise InputError(f"{version} cannot be loaded as a SavedModel: {str(error).splitlines()[0]}") from error
        signature = loaded.signatures.get("serving_default")
        inputs = signature.structured_input_signature[1] if signature else {}
        if "image_bytes" not in inputs or "descriptors" not in signature.structured_outputs:
            raise InputError(
                f"{version} has no signature serving_default from image_bytes to descriptors; "
                "export.saved_model makes one."
            )
        card = (
            files.read_json(version / CARD, "a descriptor's card") if (version / CARD).is_file() else {"descriptor": {}}
        )
        return cls(version, card["descriptor"], loaded)

    def describe(self, photos: list[bytes]) -> np.ndarray:
        """Describes encoded photos: N byte strings -> float32 [N, D].

        Raises:
            tf.errors.InvalidArgumentError: a row is not an image.
        """
        signature = self.loaded.signatures["serving_default"]
        return signature(image_bytes=tf.constant(photos, tf.string))["descriptors"].numpy()

    @property
    def finds_objects(self) -> bool:
        """Whether it has the signature `objects`."""
        return OBJECTS in self.loaded.signatures

    def describe_objects(self, photos: list[bytes], **thresholds: float | np.ndarray) -> ObjectArrays:
        """Finds and describes the objects of N encoded photos.

        Args:
            photos: the photos.
            **thresholds: `least_score` and `overlap`, each for all photos or [N]; the export's own when not given.

        Raises:
            InputError: it finds no objects.
            tf.errors.InvalidArgumentError: a row is not an image, or a threshold is out of range.
        """
        if not self.finds_objects:
            raise InputError(f"{self.version} has no signature {OBJECTS}; a run of pipelines.train_objects makes one.")
        given = {name: tf.constant(value, tf.float32) for name, value in thresholds.items()}
        # The signature itself takes all of its inputs here; the function that it was made of knows its defaults.
        found = self.loaded.objects(tf.constant(photos, tf.string), **given)
        return ObjectArrays.of({name: values.numpy() for name, values in found.items()})


def _newest(folder: Path) -> Path:
    versions = [path for path in folder.glob("*") if path.name.isdecimal() and (path / "saved_model.pb").is_file()]
    if not versions:
        raise InputError(
            f"{folder} holds no SavedModel and no version folder with one; the output of export.saved_model is wanted."
        )
    return max(versions, key=lambda path: int(path.name))
