"""Requests put together into batches by TensorFlow's own batch op.

`tf.nondifferentiable_batch_function` queues, cuts and joins; what goes through it is, for each row, the number of its
request and its place there. The arrays themselves stay here: a batch gathers them when it runs, so that requests whose
client has gone are left out, and a request that the model refuses does not take its neighbours with it.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import grpc
import numpy as np
import tensorflow as tf
from absl import logging
from tensorflow.core.protobuf import meta_graph_pb2

from export.server.batching_settings import BatchingSettings
from export.server.call import Call
from export.server.errors import GRPC_CODES, StatusError, useful_line
from export.server.metrics import Metrics, microseconds_since

Inputs = Mapping[str, np.ndarray]

# One photo at several sizes (input_image [H, W, 3]): the first axis is no batch, though its length is free too.
SIGNATURES_WITHOUT_ROWS = ("delg",)
MAX_REQUEST_ROWS = 2**31 - 1


class Run(Protocol):
    """Runs a signature on one batch; see `Servable.run`."""

    def __call__(self, signature: str, aliases: list[str], inputs: Inputs, timeout: float | None) -> list[np.ndarray]:
        """Returns the outputs in the order of `aliases`."""


@dataclasses.dataclass
class _Task:
    """A request that waits for its batches."""

    aliases: list[str]
    inputs: Inputs
    rows: int
    call: Call
    queued: float = dataclasses.field(default_factory=time.perf_counter)
    parts: list[tuple[int, dict[str, np.ndarray]]] = dataclasses.field(default_factory=list)
    error: StatusError | None = None
    alone: bool = False


@dataclasses.dataclass(frozen=True)
class _Part:
    """Rows `start` to `stop` (exclusive) of a request, in one batch."""

    task: _Task
    start: int
    stop: int

    @property
    def inputs(self) -> Inputs:
        return {
            alias: array[self.start : self.stop] if array.ndim else array for alias, array in self.task.inputs.items()
        }


class Batching:
    """Joins the requests of one version, signature by signature.

    A signature takes part when each of its inputs and outputs has rows (a first dimension of any length), apart from
    scalar inputs. Arrays of unequal shapes, and unequal scalars, run apart unless `pad_variable_length_inputs` is set.

    Args:
        signatures: the version's signatures.
        run: runs one batch.
        settings: sizes and times.
        metrics: where batches are counted.
    """

    def __init__(
        self,
        signatures: Mapping[str, meta_graph_pb2.SignatureDef],
        run: Run,
        settings: BatchingSettings,
        metrics: Metrics,
    ):
        self._run = run
        self._settings = settings
        self._metrics = metrics
        self._tasks: dict[int, _Task] = {}
        self._numbers = itertools.count()
        self._graph = tf.Graph()
        batched = [name for name, each in signatures.items() if _has_rows(name, each)]
        # A batch holds its thread while the model runs. In the pool that the model needs too, batches would fill it
        # and wait for ever; so there is one of its own, with a thread for every batch that may run and one to spare.
        config = tf.compat.v1.ConfigProto(
            use_per_session_threads=True,
            inter_op_parallelism_threads=max(1, len(batched)) * settings.num_batch_threads + 1,
            intra_op_parallelism_threads=1,
        )
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        self._queues = {name: self._queue(name) for name in batched}

    def takes(self, signature: str, inputs: Inputs) -> bool:
        """Says whether a request can share a batch."""
        return signature in self._queues and len(_row_counts(inputs)) == 1 and _row_counts(inputs) != {0}

    def run(self, signature: str, aliases: list[str], inputs: Inputs, call: Call) -> list[np.ndarray] | None:
        """Returns the outputs of a request, computed together with others.

        Returns:
            The outputs in the order of `aliases`; None when the model refuses this request, which has to be run by
            itself to learn why.

        Raises:
            StatusError: UNAVAILABLE when the queue is full, CANCELLED or DEADLINE_EXCEEDED when nobody waits any more,
                and whatever else the model fails with.
        """
        (rows,) = _row_counts(inputs)
        task, number = _Task(aliases, inputs, rows, call), next(self._numbers)
        self._metrics.input_batch_size.add(self._settings.thread_pool_name, value=rows)
        self._tasks[number] = task
        try:
            self._queues[signature](np.stack([np.full(rows, number), np.arange(rows)], axis=1))
        except tf.errors.OpError as error:
            raise StatusError(GRPC_CODES[error.error_code], useful_line(error.message)) from error
        finally:
            del self._tasks[number]
        if task.error is not None:
            raise task.error
        call.check()
        if task.alone:
            return None
        parts = [values for _, values in sorted(task.parts, key=lambda part: part[0])]
        return [np.concatenate([values[alias] for values in parts]) for alias in aliases]

    def close(self) -> None:
        """Frees the queues; no request may be under way."""
        self._session.close()

    def _queue(self, signature: str) -> Callable[[np.ndarray], object]:
        """Makes a batch op; what it returns takes the rows of a request and comes back once all have run."""

        def execute(rows: np.ndarray) -> np.ndarray:
            self._execute(signature, rows)
            return rows[:, 0]

        settings = self._settings
        with self._graph.as_default():
            rows = tf.compat.v1.placeholder(tf.int64, [None, 2])

            # With every size allowed, the op cuts requests at the largest and fills up none.
            @tf.nondifferentiable_batch_function(
                settings.num_batch_threads,
                MAX_REQUEST_ROWS,
                settings.batch_timeout_micros,
                allowed_batch_sizes=list(range(1, settings.max_batch_size + 1)),
                max_enqueued_batches=settings.max_enqueued_batches,
                autograph=False,
                enable_large_batch_splitting=True,
            )
            def batched(rows: tf.Tensor) -> tf.Tensor:
                return tf.ensure_shape(tf.numpy_function(execute, [rows], tf.int64), [None])

            done = batched(rows)
        return self._session.make_callable(done, [rows])

    def _execute(self, signature: str, rows: np.ndarray) -> None:
        """Runs one batch, as the op gathered it."""
        parts = list(self._wanted(_cut(rows)))
        try:
            for group in self._groups(parts):
                self._run_group(signature, group)
        except Exception as error:  # noqa: BLE001 - it is told to those who wait; the batch op would lose it
            logging.exception("a batch of %s failed", signature)
            for part in parts:
                part.task.error = StatusError(grpc.StatusCode.INTERNAL, f"The batch failed: {error}")

    def _wanted(self, cuts: Iterable[tuple[int, int, int]]) -> Iterable[_Part]:
        """Yields the parts of a batch that somebody waits for."""
        for number, start, stop in cuts:
            task = self._tasks.get(number)
            if task is None:
                continue
            if start == 0:
                waited = microseconds_since(task.queued)
                self._metrics.queuing_latency.add(self._settings.thread_pool_name, value=waited)
            try:
                task.call.check()
            except StatusError as error:
                task.error = error
            if task.error is None and not task.alone:
                yield _Part(task, start, stop)

    def _groups(self, parts: Iterable[_Part]) -> Iterable[list[_Part]]:
        groups: dict[tuple, list[_Part]] = {}
        for part in parts:
            groups.setdefault(_kind(part.inputs, self._settings.pad_variable_length_inputs), []).append(part)
        return groups.values()

    def _run_group(self, signature: str, parts: list[_Part]) -> None:
        """Runs parts that fit together; when the model refuses them, finds the one at fault by halving."""
        aliases = sorted({alias for part in parts for alias in part.task.aliases})
        lefts = [part.task.call.seconds_left for part in parts]
        timeout = None if None in lefts else max(lefts)
        rows = sum(part.stop - part.start for part in parts)
        try:
            values = self._run(signature, aliases, self._joined([part.inputs for part in parts], rows), timeout)
        except StatusError as error:
            self._fail(signature, parts, error)
            return
        size = self._settings.filled(rows)
        if any(value.ndim == 0 or len(value) != size for value in values):
            for part in parts:  # the signature's rows are no rows after all
                part.task.alone = True
            return
        start = 0
        for part in parts:
            stop = start + part.stop - part.start
            part.task.parts.append((part.start, {a: v[start:stop] for a, v in zip(aliases, values, strict=True)}))
            start = stop

    def _fail(self, signature: str, parts: list[_Part], error: StatusError) -> None:
        refused = error.code == grpc.StatusCode.INVALID_ARGUMENT
        if refused and len(parts) > 1:
            middle = len(parts) // 2
            self._run_group(signature, parts[:middle])
            self._run_group(signature, parts[middle:])
            return
        for part in parts:
            part.task.alone = refused
            part.task.error = None if refused else error

    def _joined(self, inputs: list[Inputs], rows: int) -> dict[str, np.ndarray]:
        """Returns the arrays of a batch, filled up to a size that is allowed."""
        size = self._settings.filled(rows)
        joined = {}
        for alias, first in inputs[0].items():
            if not first.ndim:
                joined[alias] = first
                continue
            arrays = _padded([each[alias] for each in inputs])
            arrays.append(np.repeat(arrays[-1][-1:], size - rows, axis=0))
            joined[alias] = np.concatenate(arrays)
        pool = self._settings.thread_pool_name
        self._metrics.processed_batch_size.add(pool, value=size)
        self._metrics.padding_size.add(str(size), pool, value=size - rows)
        self._metrics.wrapped_run_count.add()
        return joined


def _has_rows(name: str, signature: meta_graph_pb2.SignatureDef) -> bool:
    """Says whether a signature's first dimension is its batch."""

    def free(info: meta_graph_pb2.TensorInfo) -> bool:
        shape = info.tensor_shape
        return not shape.unknown_rank and len(shape.dim) > 0 and shape.dim[0].size == -1

    def scalar(info: meta_graph_pb2.TensorInfo) -> bool:
        return info.tensor_shape.unknown_rank or not info.tensor_shape.dim

    inputs, outputs = signature.inputs.values(), signature.outputs.values()
    return (
        name not in SIGNATURES_WITHOUT_ROWS
        and any(free(info) for info in inputs)
        and all(free(info) or scalar(info) for info in inputs)
        and all(free(info) for info in outputs)
    )


def _row_counts(inputs: Inputs) -> set[int]:
    return {len(array) for array in inputs.values() if array.ndim}


def _cut(rows: np.ndarray) -> Iterable[tuple[int, int, int]]:
    """Yields the request, first row and row behind the last, of each run of rows of one request."""
    ends = [*np.flatnonzero((np.diff(rows[:, 0]) != 0) | (np.diff(rows[:, 1]) != 1)) + 1, len(rows)]
    for start, stop in zip([0, *ends[:-1]], ends, strict=True):
        number, first = rows[start].tolist()
        yield number, first, first + int(stop - start)


def _kind(inputs: Inputs, padded: bool) -> tuple:
    """Returns what arrays must have in common to share a batch."""
    return tuple(
        (alias, array.ndim if padded else array.shape[1:]) if array.ndim else (alias, "scalar", array.item())
        for alias, array in sorted(inputs.items())
    )


def _padded(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Returns arrays filled up, with zeros or empty strings behind, to the largest shape among them, rows apart."""
    largest = np.max([array.shape[1:] for array in arrays], axis=0) if arrays[0].ndim > 1 else ()
    filled = []
    for array in arrays:
        widths = [(0, 0), *((0, int(want - have)) for have, want in zip(array.shape[1:], largest, strict=True))]
        zero = b"" if array.dtype == object else array.dtype.type(0)
        filled.append(np.pad(array, widths, constant_values=zero) if any(w for _, w in widths) else array)
    return filled
