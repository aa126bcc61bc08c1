"""An imported network as a run directory, which every script takes."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import keras

from tfretrieval import files, layers, provenance
from tfretrieval.errors import InputError
from tfretrieval.importing.build import build_network
from tfretrieval.importing.published import Published
from tfretrieval.models.descriptor import add_whitening
from tfretrieval.training.run_directory import DESCRIPTION, RunDirectory
from tfretrieval.whitening import Whitening


@dataclasses.dataclass(frozen=True)
class Imported:
    """An imported network.

    Attributes:
        model: the network.
        report: what became of the checkpoint, as `run.json` holds it: format, architecture, pooling, mean, std, scales,
            power, whitening, and the names of tensors used, unused, and left out because retrieval does not use them.
    """

    model: keras.Model
    report: dict


def import_network(published: Published, scales: tuple[float, ...] = (1.0,), whitening: str | None = None) -> Imported:
    """Builds the network of a checkpoint, with scales and a fitted whitening as its authors' code applies them.

    Args:
        published: what the checkpoint says.
        scales: factors on the photo's sides.
        whitening: name of one of the checkpoint's fitted whitenings, of which the one for as many scales is taken; or
            an npz file of `Whitening.save`. None when not given.

    Raises:
        InputError: a tensor is missing or of another shape, the scales are no factors, or there is no such whitening.
    """
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise InputError(f"--scales={','.join(map(str, scales))}; one or more factors above 0 are wanted.")
    fitted = _find_whitening(published, whitening, len(scales) > 1) if whitening else None
    model = build_network(published)
    power = _power(published, model)
    if len(scales) > 1 or scales[0] != 1:
        model = _with_scales(published, model, scales, power)
    if fitted is not None:
        trained = any(layer.name == "whitening" for layer in model.layers)
        model = add_whitening(_closed(model) if trained else model, fitted)
    report = {
        "format": published.format,
        "architecture": published.architecture,
        "pooling": published.pooling,
        "mean": list(published.mean),
        "std": list(published.std),
        "scales": list(scales),
        "power": "infinity" if power == math.inf else power,
        "whitening": whitening or ("linear layer" if published.whitening else None),
        **_tensors(published),
    }
    return Imported(model, report)


def _tensors(published: Published) -> dict:
    """Returns the names of tensors by what became of them."""
    unused = published.tensors.unused()
    heads = [name for name in unused if published.heads and name.startswith(published.heads)]
    return {
        "tensors_used": published.tensors.used(),
        "tensors_unused": [name for name in unused if name not in set(heads)],
        "tensors_of_classifier": heads,
    }


def _power(published: Published, model: keras.Model) -> float:
    """Returns the exponent of the mean over scales.

    GeM's p where cirtorch's code takes it: one shared p, no regions and no linear layer; SuperGlobal takes the maximum.
    """
    if published.pooling == "superglobal":
        return math.inf
    shared = published.format in ("cirtorch", "solar", "torchvision") and published.pooling == "gem"
    pooling = model.get_layer("pooling")
    if not shared or published.regional or published.whitening or pooling.per_channel:
        return 1.0
    return float(pooling.p.numpy())


def _with_scales(published: Published, model: keras.Model, scales: tuple[float, ...], power: float) -> keras.Model:
    """Puts a network behind several scales; cirtorch's code resizes without anti-aliasing, the others with it."""
    pixels = keras.Input((None, None, 3), name="images")
    antialias = published.format not in ("cirtorch", "solar")
    found = layers.MultiScale(model, scales, power, antialias=antialias, name="scales")(pixels)
    return keras.Model(pixels, found, name="descriptor")


def _closed(model: keras.Model) -> keras.Model:
    """Returns a network that is one layer of another: a fitted whitening follows a trained linear layer too."""
    pixels = keras.Input((None, None, 3), name="images")
    return keras.Model(pixels, model(pixels), name="descriptor")


def _find_whitening(published: Published, name: str, several: bool) -> Whitening:
    """Returns a fitted whitening of the checkpoint, or of a file."""
    if name.endswith(".npz"):
        return Whitening.load(name)
    if name not in published.fitted:
        known = ", ".join(published.fitted) or "none"
        raise InputError(
            f"--whitening={name} is not in --checkpoint={published.tensors.source}, which has {known}; one of those, "
            "or an .npz file of mean and projection, is wanted."
        )
    kinds, kind = published.fitted[name], "ms" if several else "ss"
    if kind not in kinds:
        raise InputError(
            f"--whitening={name} of --checkpoint={published.tensors.source} was fitted for {', '.join(kinds)} only; "
            f"{kind} is wanted for {'several scales' if several else 'one scale'}."
        )
    return kinds[kind]


def write_imported_run(
    imported: Imported, checkpoint: str | Path, image_size: int, output: str | Path, flags: Mapping[str, object]
) -> RunDirectory:
    """Writes an imported network as a run: `best.keras`, `run.json` and `flags.txt`.

    Args:
        imported: the network.
        checkpoint: the file that it came from, whose hash is noted.
        image_size: longer side in pixels that photos are resized to.
        output: the directory.
        flags: what to note in `run.json`.

    Raises:
        InputError: the output holds something else.
    """
    head = provenance.header(flags, None, {"checkpoint": files.sha256(checkpoint)}, {"image_size": image_size})
    description = {**head, "records": None, "training": {"image_size": image_size}, "imported": imported.report}
    with files.atomic_directory(output, marker=DESCRIPTION) as partial:
        imported.model.save(partial / "best.keras")
        files.write_text(partial / "flags.txt", provenance.flag_file(flags))
        files.write_json(partial / DESCRIPTION, description)
    return RunDirectory.load(output)
