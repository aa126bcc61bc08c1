"""Descriptors as a Parquet file, which vector databases and data warehouses load in bulk."""

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError

ID, DESCRIPTOR = "id", "descriptor"
META = b"tfretrieval"
ROWS_IN_GROUP = 16_384
_ROWS_READ = 4_096


def write_parquet(
    descriptors: Descriptors,
    path: str | Path,
    columns: Mapping[str, Sequence] | None = None,
    meta: Mapping[str, object] | None = None,
    rows_in_group: int = ROWS_IN_GROUP,
) -> str:
    """Writes one row a photo: `id` text, `descriptor` float32 lists of fixed size D, and further columns.

    The file appears whole or not at all; equal input gives equal bytes. Memory beside the descriptors, which may be
    memory-mapped, is that of a row group. Descriptors are not compressed: their bits hardly repeat.

    Args:
        descriptors: N descriptors.
        path: the file.
        columns: further columns, each of N numbers or texts.
        meta: what to say in the schema's metadata, under `tfretrieval` as JSON, beside the descriptors' own meta and
            SHA-256.
        rows_in_group: rows of a row group.

    Returns:
        The SHA-256 of the descriptors: of the N * D float32 numbers in little-endian order, row after row.

    Raises:
        InputError: a column has another length or the name of one that is there, or a group would have no rows.
    """
    columns, path = dict(columns or {}), Path(path)
    _check(descriptors, columns, rows_in_group)
    arrays = {name: pa.array(values) for name, values in columns.items()}
    vector = pa.list_(pa.field("item", pa.float32(), nullable=False), descriptors.vectors.shape[1])
    fields = [pa.field(ID, pa.string(), nullable=False), pa.field(DESCRIPTOR, vector, nullable=False)]
    schema = pa.schema([*fields, *(pa.field(name, array.type) for name, array in arrays.items())])
    packed = dict.fromkeys((ID, *columns), "zstd") | {f"{DESCRIPTOR}.list.element": "none"}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    digest = hashlib.sha256()
    try:
        with pq.ParquetWriter(partial, schema, compression=packed, use_dictionary=list(columns)) as writer:
            for first in range(0, len(descriptors), rows_in_group):
                rows = np.ascontiguousarray(descriptors.vectors[first : first + rows_in_group], "<f4")
                digest.update(memoryview(rows).cast("B"))
                lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), type=vector)
                ids = pa.array(descriptors.ids[first : first + rows_in_group], pa.string())
                own = [array.slice(first, rows_in_group) for array in arrays.values()]
                writer.write_table(pa.Table.from_arrays([ids, lists, *own], schema=schema), rows_in_group)
            told = {**(meta or {}), "sha256": digest.hexdigest(), "descriptors": descriptors.meta}
            writer.add_key_value_metadata({META: json.dumps(told, ensure_ascii=False).encode()})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)  # noqa: PTH105 - the one call that is atomic on every platform
    finally:
        partial.unlink(missing_ok=True)
    return digest.hexdigest()


def read_parquet(path: str | Path) -> tuple[Descriptors, dict[str, list], dict]:
    """Reads what `write_parquet` wrote, a few thousand rows at a time.

    Returns:
        The descriptors, the further columns, and what the schema's metadata says.

    Raises:
        InputError: the file is missing, is another kind of file, or its descriptors are not those that were written.
    """
    try:
        file = pq.ParquetFile(path)
        told = json.loads(file.metadata.metadata[META])
        dimension = file.schema_arrow.field(DESCRIPTOR).type.list_size
    except (OSError, pa.ArrowException, KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path} is not a Parquet file of pipelines.export_vectors ({error!r}).") from error
    names = [name for name in file.schema_arrow.names if name not in (ID, DESCRIPTOR)]
    vectors = np.empty((file.metadata.num_rows, dimension), np.float32)
    ids, columns, done = [], {name: [] for name in names}, 0
    for batch in file.iter_batches(_ROWS_READ):
        found = batch.column(DESCRIPTOR).flatten().to_numpy(zero_copy_only=False).reshape(-1, dimension)
        vectors[done : done + len(found)] = found
        ids += batch.column(ID).to_pylist()
        for name in names:
            columns[name] += batch.column(name).to_pylist()
        done += len(found)
    if hashlib.sha256(memoryview(vectors.astype("<f4", copy=False)).cast("B")).hexdigest() != told["sha256"]:
        raise InputError(f"{path} holds other descriptors than were written; export them again.")
    return Descriptors(vectors, tuple(ids), told["descriptors"]), columns, told


def _check(descriptors: Descriptors, columns: Mapping[str, Sequence], rows_in_group: int) -> None:
    for name, values in columns.items():
        if name in (ID, DESCRIPTOR) or not name:
            raise InputError(f"a further column is named {name!r}; another name is wanted.")
        if len(values) != len(descriptors):
            raise InputError(
                f"the column {name!r} has {len(values)} values for {len(descriptors)} photos; one each is wanted."
            )
    if rows_in_group < 1:
        raise InputError(f"--rows_in_group is {rows_in_group}; 1 or more is wanted.")
    if not len(descriptors):
        raise InputError("there are no descriptors to write; one at least is wanted.")
