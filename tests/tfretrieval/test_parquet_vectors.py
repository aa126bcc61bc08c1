import hashlib

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.parquet_vectors import read_parquet, write_parquet


def descriptors(count=10, dimension=7):
    vectors = np.random.default_rng(0).normal(size=(count, dimension)).astype(np.float32)
    vectors[0, :3] = [0.0, -0.0, 1e-42]  # a zero's sign and numbers below the normal ones are kept
    return Descriptors(vectors, tuple(f"café/{row}.jpg" for row in range(count)), {"model": "runs/gem"})


COLUMNS = {"instance": [f"place {row % 3}" for row in range(10)], "height": np.arange(10, dtype=np.int32)}


@pytest.mark.parametrize("rows", [1, 3, 10, 100])
def test_what_is_written_is_read_bit_for_bit(tmp_path, rows):
    given = descriptors()
    digest = write_parquet(given, tmp_path / "new" / "db.parquet", COLUMNS, {"flags": {"k": 1}}, rows)
    found, columns, told = read_parquet(tmp_path / "new" / "db.parquet")
    np.testing.assert_array_equal(found.vectors.view(np.int32), given.vectors.view(np.int32))
    assert (found.ids, found.meta) == (given.ids, given.meta)
    assert columns == {"instance": COLUMNS["instance"], "height": list(range(10))}
    assert digest == told["sha256"] == hashlib.sha256(given.vectors.tobytes()).hexdigest()
    assert told["flags"] == {"k": 1}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["db.parquet"]


def test_any_reader_sees_the_schema_and_small_groups(tmp_path):
    write_parquet(descriptors(), tmp_path / "db.parquet", COLUMNS, rows_in_group=4)
    file = pq.ParquetFile(tmp_path / "db.parquet")
    assert file.schema_arrow.names == ["id", "descriptor", "instance", "height"]
    kind = file.schema_arrow.field("descriptor").type
    assert pa.types.is_fixed_size_list(kind) and kind.list_size == 7 and kind.value_type == pa.float32()
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [4, 4, 2]
    rows = pq.read_table(tmp_path / "db.parquet").to_pylist()
    assert rows[5]["id"] == "café/5.jpg" and rows[5]["height"] == 5
    assert rows[5]["descriptor"] == descriptors().vectors[5].tolist()


def test_mapped_descriptors_and_equal_bytes(tmp_path):
    descriptors().save(tmp_path / "db")
    for name in ("one", "two"):
        write_parquet(Descriptors.load(tmp_path / "db"), tmp_path / name, COLUMNS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_parquet(descriptors(), tmp_path / "db.parquet")
    before = (tmp_path / "db.parquet").read_bytes()
    with pytest.raises(pa.ArrowException):
        write_parquet(descriptors(), tmp_path / "db.parquet", {"mixed": [*range(9), "nine"]})
    assert (tmp_path / "db.parquet").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["db.parquet"]


@pytest.mark.parametrize(
    ("columns", "rows", "told"),
    [
        ({"height": [1]}, 4, "'height' has 1 values for 10 photos"),
        ({"id": range(10)}, 4, "named 'id'"),
        ({}, 0, "--rows_in_group is 0"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, columns, rows, told):
    with pytest.raises(InputError, match=told):
        write_parquet(descriptors(), tmp_path / "db.parquet", columns, rows_in_group=rows)
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="not a Parquet file of"):
        read_parquet(tmp_path / "nothing")
    (tmp_path / "text").write_text("descriptor")
    with pytest.raises(InputError, match="not a Parquet file of"):
        read_parquet(tmp_path / "text")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="not a Parquet file of"):
        read_parquet(tmp_path / "other.parquet")


def test_changed_descriptors_are_noticed(tmp_path):
    write_parquet(descriptors(), tmp_path / "db.parquet")
    data = (tmp_path / "db.parquet").read_bytes()
    value = descriptors().vectors[3].tobytes()
    assert data.count(value) == 1
    (tmp_path / "db.parquet").write_bytes(data.replace(value, value[::-1]))
    with pytest.raises(InputError, match="other descriptors than were written"):
        read_parquet(tmp_path / "db.parquet")
