"""One version of a SavedModel, loaded."""

import contextlib
import logging as python_logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from export.server.batching import Batching, BatchingSettings
from export.server.errors import GRPC_CODES, StatusError, useful_line
from export.server.metrics import Metrics


class Servable:
    """One loaded version of a SavedModel.

    It is loaded into a session, as the real server does, so signatures, defaults, timeouts and error texts are those
    of the graph itself.

    Args:
        folder: the version's folder.
        version: its number.
        session_parallelism: threads of TensorFlow's pools; 0 leaves the choice to TensorFlow.
        batching: how requests are put together; None runs each by itself.
        metrics: where runs and batches are counted; nowhere by default.
        model_name: label of the metrics.

    Attributes:
        version: the number.
        signatures: the `SignatureDef`s by name.
        batching: puts requests together; None where each runs by itself.
    """

    def __init__(
        self,
        folder: Path,
        version: int,
        session_parallelism: int = 0,
        batching: BatchingSettings | None = None,
        metrics: Metrics | None = None,
        model_name: str = "",
    ):
        self.version = version
        self._model_name = model_name
        self._metrics = metrics or Metrics()
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=session_parallelism, inter_op_parallelism_threads=session_parallelism
        )
        config.gpu_options.allow_growth = True
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            with self._session.graph.as_default(), _no_deprecation_notes():
                graph = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(folder))
            self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = dict(graph.signature_def)
            self.batching = (
                Batching(self.signatures, self.run, batching, self._metrics) if batching is not None else None
            )
        except BaseException:
            self._session.close()
            raise

    def run(
        self, signature: str, aliases: list[str], inputs: Mapping[str, np.ndarray], timeout: float | None = None
    ) -> list[np.ndarray]:
        """Runs a signature on one batch.

        Args:
            signature: its name.
            aliases: the outputs to compute.
            inputs: an array for each input, of its dtype and of a compatible shape.
            timeout: seconds after which the run is cancelled; None waits for ever.

        Returns:
            The outputs, in the order of `aliases`.

        Raises:
            StatusError: the graph failed, or the time was over.
        """
        named = self.signatures[signature]
        feeds = {named.inputs[alias].name: array for alias, array in inputs.items()}
        fetches = [named.outputs[alias].name for alias in aliases]
        # Zero milliseconds mean no limit; a gRPC client without a deadline counts down from centuries.
        limit = 0 if timeout is None else int(max(1, min(1000 * timeout, 2**31 - 1)))
        try:
            return self._session.run(fetches, feeds, options=tf.compat.v1.RunOptions(timeout_in_ms=limit))
        except tf.errors.OpError as error:
            raise StatusError(GRPC_CODES[error.error_code], useful_line(error.message)) from error

    def measure(self, microseconds: float) -> None:
        """Notes how long the model took for a request, batch and queue included."""
        self._metrics.runtime_latency.add(self._model_name, "Predict", "TF1", value=microseconds)

    def close(self) -> None:
        """Frees the model; no run may be under way."""
        if self.batching is not None:
            self.batching.close()
        self._session.close()


@contextlib.contextmanager
def _no_deprecation_notes() -> Iterator[None]:
    """Hides TensorFlow's advice to use `tf.saved_model.load`, which does not load into a session."""

    def keep(record: python_logging.LogRecord) -> bool:
        return "is deprecated" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
