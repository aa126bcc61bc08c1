"""A descriptor network as one file of another format: Keras, ONNX, LiteRT, by Keras's own exporters."""

import contextlib
import importlib
import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfretrieval.errors import InputError
from tfretrieval.models.descriptor import load_descriptor

SAVED_MODEL, KERAS, ONNX, LITERT = "saved_model", "keras", "onnx", "litert"
# The file of each format; a SavedModel is a folder of its own.
FILES = {KERAS: "descriptor.keras", ONNX: "descriptor.onnx", LITERT: "descriptor.tflite"}
FORMATS = (SAVED_MODEL, *FILES)
# What writes a format, and what runs it: modules and the packages that have them.
_WRITERS = {ONNX: {"tf2onnx": "tf2onnx", "onnx": "onnx"}}
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can tell
_SAVED = "date_saved"


class Runner:
    """A network in another runtime, called as a Keras model is.

    Args:
        run: from uint8 [n, h, w, 3] to float32 [n, D], on NumPy arrays.
        dimension: D.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], dimension: int):
        self._run, self.output_shape = run, (None, dimension)

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Describes photos."""
        return tf.ensure_shape(tf.numpy_function(self._run, [images], tf.float32), self.output_shape)


def write_file(model: keras.Model, kind: str, folder: Path) -> Path:
    """Writes a network as `FILES[kind]`.

    ONNX and LiteRT files take uint8 [n, h, w, 3], any n, h and w, and give float32 [n, D].

    Args:
        model: the network.
        kind: one of `FILES`.
        folder: where.

    Raises:
        InputError: a package is missing, or the network cannot be converted.
    """
    path = folder / FILES[kind]
    if kind == KERAS:
        model.save(path)
        _without_dates(path)
        return path
    for module, package in _WRITERS.get(kind, {}).items():
        if _module(module) is None:
            raise InputError(
                f"--format={kind} needs the package {package}, which is not installed: pip install {package}"
            )
    images = keras.InputSpec(shape=(None, None, None, 3), dtype="uint8", name="images")
    try:
        with _quiet():
            model.export(path, format=kind, input_signature=[images], verbose=False)
    except Exception as error:
        # Converters raise errors of many kinds, of their own and of what they call.
        raise InputError(
            f"--format={kind}: the network cannot be converted: {(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error
    return path


def open_file(path: Path, kind: str, dimension: int) -> keras.Model | Runner | str:
    """Opens what `write_file` wrote in its runtime.

    Returns:
        The network; or, where there is no runtime for it, the reason in a sentence.
    """
    if kind == KERAS:
        return load_descriptor(path)
    return (_open_onnx if kind == ONNX else _open_litert)(path, dimension)


def _open_onnx(path: Path, dimension: int) -> Runner | str:
    runtime = _module("onnxruntime")
    if runtime is None:
        return "onnxruntime is not installed"
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    return Runner(lambda images: session.run(None, {name: images})[0], dimension)


def _open_litert(path: Path, dimension: int) -> Runner | str:
    runtime = _module("ai_edge_litert.interpreter")
    resolvers = runtime.OpResolverType if runtime else tf.lite.experimental.OpResolverType
    # The default delegate, XNNPACK, refuses some graphs whose sizes are open.
    plain = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with _quiet():
        interpreter = (runtime or tf.lite).Interpreter(str(path), experimental_op_resolver_type=plain)
    place, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(place, images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(place, images)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    try:
        run(np.zeros((1, 32, 32, 3), np.uint8))
    except RuntimeError as error:
        if "Flex delegate" in str(error) or "Select TensorFlow op" in str(error):
            return "it holds TensorFlow operations (Flex), which the runtime here is built without"
        raise InputError(f"{path} does not run in LiteRT: {str(error).splitlines()[0]}") from error
    return Runner(run, dimension)


def _module(name: str):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@contextlib.contextmanager
def _quiet():
    """Hides the converters' notes about themselves."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _without_dates(path: Path) -> None:
    """Rewrites a `.keras` file so that its bytes do not tell when it was saved."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    told = json.loads(members["metadata.json"])
    members["metadata.json"] = json.dumps({**told, _SAVED: "1980-01-01@00:00:00"}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
