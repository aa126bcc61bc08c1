"""A SavedModel the way TensorFlow Serving loads it: into a session, by tag and signature."""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from tfretrieval.errors import InputError

TAG = "serve"


class ServedSession:
    """Signatures of a SavedModel, called by name in a session of their own.

    Use it in a `with` block, which frees the model's memory.

    Args:
        folder: the SavedModel.

    Attributes:
        signatures: `SignatureDef` by name, without those that TensorFlow adds for itself.

    Raises:
        InputError: it cannot be loaded.
    """

    def __init__(self, folder: str | Path):
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with self._session.graph.as_default(), _without_advice():
                graph = tf.compat.v1.saved_model.load(self._session, [TAG], str(folder))
        except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
            self._session.close()
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"{folder} cannot be loaded as a SavedModel by the tag {TAG!r}: {reason}") from error
        self.signatures: dict[str, meta_graph_pb2.SignatureDef] = {
            name: graph.signature_def[name] for name in sorted(graph.signature_def) if not name.startswith("__")
        }

    def __call__(self, signature: str, inputs: Mapping[str, object]) -> dict[str, np.ndarray]:
        """Calls a signature; inputs with a default may be left out.

        Raises:
            KeyError: there is no such signature or input.
            tf.errors.OpError: the graph refuses the inputs.
        """
        definition = self.signatures[signature]
        feeds = {definition.inputs[name].name: value for name, value in inputs.items()}
        return self._session.run({name: info.name for name, info in definition.outputs.items()}, feeds)

    def __enter__(self) -> "ServedSession":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._session.close()


@contextlib.contextmanager
def _without_advice():
    """Hides TensorFlow's advice to load otherwise: a server loads so."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
