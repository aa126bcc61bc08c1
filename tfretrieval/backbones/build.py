"""Building a backbone by its name."""

import contextlib
import difflib
import warnings
from pathlib import Path

import keras

from tfretrieval.backbones import hub
from tfretrieval.backbones.applications import APPLICATIONS
from tfretrieval.backbones.entry import Backbone
from tfretrieval.backbones.small_resnet import SMALL_RESNET
from tfretrieval.errors import InputError

# Keras's MobileNets average BatchNorm statistics over about 1,000 steps: from scratch, a short training would end
# before they follow. With 0.9 they lag by about ten.
SCRATCH_MOMENTUM = 0.9

BACKBONES: dict[str, Backbone] = {"small_resnet": SMALL_RESNET, **APPLICATIONS, **hub.HUB}


def build_backbone(name: str, weights: str | None = None) -> keras.Model:
    """Builds a backbone.

    Args:
        name: key of `BACKBONES`.
        weights: None (random); "imagenet" or "preset" (those of `Backbone.published`, downloaded); for a backbone of
            KerasHub the name, handle or directory of a preset; or a path to a `.weights.h5` file of the same network
            without its top, or of the model that this function returns.

    Returns:
        A model [N, H, W, 3] of scaled pixels -> [N, h, w, C]. From random weights its BatchNorm momentum is 0.9.

    Raises:
        InputError: the name is unknown, or the weights are missing, unreadable or of another shape.
    """
    if name not in BACKBONES:
        close = ", ".join(difflib.get_close_matches(name, BACKBONES, n=5, cutoff=0.3)) or "resnet50"
        raise InputError(
            f"--backbone={name} is unknown; one like {close} is wanted, and `python -m pipelines.backbones` lists all "
            f"{len(BACKBONES)}."
        )
    entry = BACKBONES[name]
    path = Path(weights) if weights and _is_file_name(weights, entry) else None
    if path is not None and not path.is_file():
        raise InputError(f"--weights={path} is not a file; a .weights.h5 file or 'imagenet' is wanted.")
    preset = None if path is not None or not weights else weights
    try:
        if preset in ("imagenet", "preset"):
            preset = entry.published or _refuse(name)
        network = entry.make(preset)
        correction = hub.preset_correction(preset, entry.scaling) if preset and entry.presets else None
        if correction is not None and entry.stages:
            raise ValueError("the preset's pixels are scaled in another way than this backbone's")
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise InputError(f"--backbone={name} --weights={weights} could not be made: {_first_line(error)}") from error
    if path is not None:
        return _load(entry, network, path, name)
    if preset is None:
        for layer in batch_norms(network):
            layer.momentum = SCRATCH_MOMENTUM
    return _behind(correction, _finish(entry, network))


def _is_file_name(weights: str, entry: Backbone) -> bool:
    """Whether weights name a file: for KerasHub's backbones anything else names a preset."""
    if weights in ("imagenet", "preset"):
        return False
    return not entry.presets or Path(weights).is_file() or weights.endswith((".h5", ".keras"))


def _refuse(name: str) -> str:
    raise ValueError(f"{name} has no published weights")


def _finish(entry: Backbone, network: keras.Model) -> keras.Model:
    return entry.finish(network) if entry.finish else network


def _behind(correction: keras.layers.Layer | None, model: keras.Model) -> keras.Model:
    """Returns the model behind a layer that corrects its pixels."""
    if correction is None:
        return model
    pixels = keras.Input((None, None, 3))
    return keras.Model(pixels, model(correction(pixels)), name=f"{model.name}_preset")


def _load(entry: Backbone, network: keras.Model, path: Path, name: str) -> keras.Model:
    """Loads a weights file into a network and finishes it; or finishes it and loads the file of a finished one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a mismatch is one sentence, not a warning for each layer before it
            network.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = _first_line(error).split(" Example error message")[0]
        if entry.finish:
            model = entry.finish(network)
            with contextlib.suppress(OSError, ValueError, KeyError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.load_weights(path)
                return model
        raise InputError(f"--weights={path} does not fit --backbone={name} without its top: {reason}") from error
    return _finish(entry, network)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Returns all BatchNorm layers of a model, nested ones included."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
