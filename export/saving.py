"""From a trained network to a version folder of a SavedModel, and back."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from export.signatures import ServedDescriptor
from tfretrieval import files, provenance
from tfretrieval.errors import InputError
from tfretrieval.models.descriptor import load_descriptor
from tfretrieval.training.run_directory import RunDirectory

CARD = "descriptor.json"


@dataclasses.dataclass(frozen=True)
class ExportSource:
    """What is exported.

    Attributes:
        model: the network.
        image_size: longer side in pixels that photos are resized to.
        sha256: hash of the `.keras` file.
        training: the run's description; empty for a bare `.keras` file.
    """

    model: keras.Model
    image_size: int
    sha256: str
    training: dict

    @property
    def dimension(self) -> int:
        """Dimension D of the descriptors."""
        return int(self.model.output_shape[-1])


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
    return ExportSource(
        model, image_size or training["training"]["image_size"], files.sha256(run.model(which)), training
    )


def write_version(source: ExportSource, output: str | Path, flags: Mapping[str, object]) -> Path:
    """Writes the next version of a model.

    The version folder appears whole, so that a server which polls its parent never loads half of one.

    Args:
        source: what to export.
        output: the model's folder; versions are 1, 2, ...
        flags: what to note in the version's `descriptor.json`.

    Returns:
        The version folder.

    Raises:
        InputError: the output is a file.
    """
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise InputError(f"--output={output} is a file; a folder for model versions is wanted.")
    versions = [int(path.name) for path in output.glob("*") if path.is_dir() and path.name.isdecimal()]
    version = output / str(max(versions, default=0) + 1)
    data = {"model": source.sha256, **source.training.get("data", {})}
    head = provenance.header(flags, source.training.get("seed"), data, {"image_size": source.image_size})
    card = {"dimension": source.dimension, "image_size": source.image_size, "model_sha256": source.sha256}
    served = ServedDescriptor(source.model, source.image_size, json.dumps(card))
    with files.atomic_directory(version, marker="saved_model.pb") as partial:
        signatures = {"serving_default": served.serving_default, "card": served.card}
        tf.saved_model.save(served, str(partial), signatures=signatures)
        files.write_json(partial / CARD, {"descriptor": card, **head, "training": source.training})
    return version


def serving_command(output: str | Path, name: str = "descriptor") -> str:
    """Returns the shell command that hosts a model folder in TensorFlow Serving's public image."""
    folder = shlex.quote(f"type=bind,source={Path(output).resolve()},target=/models/{name}")
    return f"docker run --rm -p 8500:8500 -p 8501:8501 --mount {folder} -e MODEL_NAME={name} tensorflow/serving"


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A version folder, loaded in this process.

    Attributes:
        version: the folder.
        card: dimension, image_size and model_sha256 of its `descriptor.json`; empty where it has none.
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


def _newest(folder: Path) -> Path:
    versions = [path for path in folder.glob("*") if path.name.isdecimal() and (path / "saved_model.pb").is_file()]
    if not versions:
        raise InputError(
            f"{folder} holds no SavedModel and no version folder with one; the output of export.saved_model is wanted."
        )
    return max(versions, key=lambda path: int(path.name))
