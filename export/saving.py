"""From a trained network to a version folder of a SavedModel, and back."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from export import formats
from export.checksums import write_checksums
from export.described_objects import ObjectArrays
from export.object_signature import OBJECTS, ObjectSettings, ServedObjects, WholePhotos
from export.package import CARD, write_package
from export.precision import FLOAT32, FrozenNetwork
from export.precision_check import PrecisionSettings, check
from export.protocol_figures import figures_of
from export.reproducible import SAVED_MODEL
from export.search_index import IndexSettings
from export.search_signature import SEARCH, ServedSearch
from export.sent_photos import DEFAULT_LIMITS, PhotoLimits
from export.signatures import ServedDescriptor
from export.weights_origin import weights_origin
from tfretrieval import files, provenance
from tfretrieval.errors import InputError
from tfretrieval.layers import MultiScale
from tfretrieval.models.descriptor import load_descriptor
from tfretrieval.models.guided import GuidedObjectEmbedder
from tfretrieval.training.run_directory import RunDirectory


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


# Published checkpoints of these formats were trained on Google Landmarks, its first and its clean second version.
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
    source: ExportSource,
    output: str | Path,
    flags: Mapping[str, object],
    objects: ObjectSettings | None = None,
    limits: PhotoLimits = DEFAULT_LIMITS,
    precision: PrecisionSettings | None = None,
    index: IndexSettings | None = None,
    metrics: str | Path | None = None,
) -> Path:
    """Writes the next version of a model.

    The network is frozen and optimised in its precision, and compared with the Keras model, before anything is written;
    one that finds objects is written as it is. The version folder appears whole, so that a server which polls its
    parent never loads half of one.

    Args:
        source: what to export.
        output: the model's folder; versions are 1, 2, ...
        flags: what to note in the version's `descriptor.json`.
        objects: what the signature `objects` finds; its defaults when not given.
        limits: which photos are refused.
        precision: the precision, and what it has to reach; its defaults when not given.
        index: what the signature `search` looks through; no such signature when not given.
        metrics: `metrics.json` of an evaluation of the network, whose figures the card tells.

    Returns:
        The version folder.

    Raises:
        InputError: the output is a file, `objects` says something and the network finds none, the precision does not
            reach what it has to, or index or metrics are not of this network.
    """
    objects, precision = objects or ObjectSettings(), precision or PrecisionSettings()
    _refuse_misplaced(source, objects, precision)
    version = _next_version(Path(output))
    card, head = {**source.card, "precision": precision.precision}, _head(source, flags, metrics)
    if source.finds_objects:
        card["objects"] = {**dataclasses.asdict(objects), "classes": list(source.classes)}
        settings = source.classes, objects, limits
        served = ServedObjects(source.model, source.image_size, json.dumps(card), *settings)
    else:
        served, head["precision_check"] = _frozen(source, precision, json.dumps(card), limits)
    functions = served.functions
    if index and index.index:
        served.index = ServedSearch(index, served.serving_default, source.dimension, source.sha256)
        head["search"], functions[SEARCH] = served.index.card, served.index.search
    told = {"descriptor": card, **head, "training": source.training}
    with files.atomic_directory(version, marker=SAVED_MODEL) as partial:
        write_package(served, functions, partial, source.image_size, told)
    return version


def _frozen(
    source: ExportSource, precision: PrecisionSettings, card: str, limits: PhotoLimits
) -> tuple[ServedDescriptor, dict]:
    """Returns the served network in a precision, and what its comparison with the Keras model gave."""
    network = FrozenNetwork(source.network, precision.precision)
    checked = check(source.network, network, source.image_size, precision)
    served = ServedDescriptor(network, source.image_size, card, limits)
    served.frozen = network  # what it holds of weights belongs to the SavedModel
    return served, checked


def write_file_of(
    source: ExportSource,
    output: str | Path,
    flags: Mapping[str, object],
    kind: str,
    precision: PrecisionSettings | None = None,
    metrics: str | Path | None = None,
) -> Path:
    """Writes a network as one file of another format, with its card and checksums.

    Args:
        source: what to export.
        output: the folder to write; an earlier export there is replaced.
        flags: what to note in `descriptor.json`.
        kind: one of `formats.FILES`.
        precision: what it is compared on; float32 only.
        metrics: see `write_version`.

    Returns:
        The file.

    Raises:
        InputError: the format cannot be written, the file does not give what the Keras model gives, or the precision is
            another than float32.
    """
    precision = precision or PrecisionSettings()
    if precision.precision != FLOAT32:
        raise InputError(f"--precision={precision.precision} is of --format=saved_model; --format={kind} has float32.")
    if source.finds_objects:
        raise InputError(f"--format={kind} is of networks that describe whole photos; this one finds objects too.")
    head = {**_head(source, flags, metrics), "format": kind}
    with files.atomic_directory(output, marker=CARD) as partial:
        path = formats.write_file(source.model, kind, partial)
        opened = formats.open_file(path, kind, source.dimension)
        told = {"not_compared": opened} if isinstance(opened, str) else None
        told = told or check(source.network, opened, source.image_size, precision, f"--format={kind}")
        card = {"descriptor": {**source.card, "precision": FLOAT32}, **head, "precision_check": told}
        files.write_json(partial / CARD, {**card, "training": source.training})
        write_checksums(partial)
    return Path(output) / path.name


def _head(source: ExportSource, flags: Mapping[str, object], metrics: str | Path | None) -> dict:
    """Returns what a card tells of any export besides the descriptor itself."""
    data = {"model": source.sha256, **source.training.get("data", {})}
    head = provenance.header(flags, source.training.get("seed"), data, {"image_size": source.image_size})
    figures = figures_of(metrics, source.sha256) if metrics else None
    return {**head, "weights": weights_origin(source.training), "metrics": figures}


def _refuse_misplaced(source: ExportSource, objects: ObjectSettings, precision: PrecisionSettings) -> None:
    """Raises an InputError for settings that the network has no use for."""
    if not source.finds_objects and objects != ObjectSettings():
        raise InputError("--objects_... was given and the network finds no objects; pipelines.train_objects makes one.")
    if source.finds_objects and precision != PrecisionSettings():
        raise InputError(
            "--precision, --check_... and --min_cosine are of networks that describe whole photos; one that finds "
            "objects is exported in float32, as it is."
        )


def _next_version(output: Path) -> Path:
    if output.exists() and not output.is_dir():
        raise InputError(f"--output={output} is a file; a folder for model versions is wanted.")
    versions = [int(path.name) for path in output.glob("*") if path.is_dir() and path.name.isdecimal()]
    return output / str(max(versions, default=0) + 1)


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
        version = folder if (folder / "saved_model.pb").is_file() else newest_version(folder)
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


def newest_version(folder: Path) -> Path:
    """Returns the newest version below a model's folder.

    Raises:
        InputError: there is none.
    """
    versions = [path for path in folder.glob("*") if path.name.isdecimal() and (path / "saved_model.pb").is_file()]
    if not versions:
        raise InputError(
            f"{folder} holds no SavedModel and no version folder with one; the output of export.saved_model is wanted."
        )
    return max(versions, key=lambda path: int(path.name))
