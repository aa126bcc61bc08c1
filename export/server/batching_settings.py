"""How requests are put together: BatchingParameters, checked."""

import dataclasses
import os
from pathlib import Path

from google.protobuf import message

from export.server.config_files import read_text_proto
from export.server.config_protos import BatchingParameters
from tfretrieval.errors import InputError

# Far above what serves; each batch size and each thread takes memory of its own.
_BOUNDS = {
    "max_batch_size": (1, 2**16),
    "batch_timeout_micros": (0, 2**31 - 1),
    "max_enqueued_batches": (1, 2**20),
    "num_batch_threads": (1, 1024),
}


@dataclasses.dataclass(frozen=True)
class BatchingSettings:
    """The real server's `BatchingParameters`, with its defaults.

    Attributes:
        max_batch_size: rows of one batch; a larger request is cut into several.
        batch_timeout_micros: microseconds that a batch waits for more rows once a thread is free for it.
        max_enqueued_batches: batches that may wait; requests beyond are answered UNAVAILABLE.
        num_batch_threads: batches that run at a time.
        thread_pool_name: label of the metrics.
        allowed_batch_sizes: a batch is filled up to one of these with copies of its last row; empty for any size.
        pad_variable_length_inputs: whether arrays of unequal shapes are filled up with zeros to share a batch; they
            run apart otherwise.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = "model_server_batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False

    def __post_init__(self):
        for name, (least, most) in _BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{name} is {getattr(self, name)}; a whole number from {least} to {most} is wanted.")
        sizes = self.allowed_batch_sizes
        if sizes and (sizes != tuple(sorted(set(sizes))) or sizes[0] < 1 or sizes[-1] != self.max_batch_size):
            raise InputError(
                f"allowed_batch_sizes are {list(sizes)}; rising numbers are wanted, the last one max_batch_size, "
                f"{self.max_batch_size}."
            )

    def filled(self, rows: int) -> int:
        """Returns the size that a batch of so many rows is filled up to."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


def read_batching_parameters(path: str | Path) -> BatchingSettings:
    """Reads a `--batching_parameters_file`.

    Raises:
        InputError: the file cannot be read, or its values do not fit.
    """
    proto = read_text_proto(path, BatchingParameters(), "batching_parameters_file")
    try:
        return from_proto(proto)
    except InputError as error:
        raise InputError(f"--batching_parameters_file={path}: {error}") from error


def from_proto(proto: message.Message) -> BatchingSettings:
    """Returns the settings that a `BatchingParameters` asks for; what it leaves out keeps its default.

    Where it sets `max_execution_batch_size`, that bounds a batch, and `max_batch_size` only a request; requests of any
    size are cut here, so the former stands for both.

    Raises:
        InputError: a value is out of range.
    """
    given = {
        field.name: getattr(proto, field.name).value
        for field in dataclasses.fields(BatchingSettings)
        if field.name in _WRAPPED and proto.HasField(field.name)
    }
    if proto.HasField("max_execution_batch_size"):
        given["max_batch_size"] = proto.max_execution_batch_size.value
    return BatchingSettings(
        **given,
        allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
        pad_variable_length_inputs=proto.pad_variable_length_inputs,
    )


_WRAPPED = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads", "thread_pool_name")
