import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

pytest.importorskip("pyarrow")

from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.parquet_vectors import read_parquet


@pytest.fixture
def described(record_set, tmp_path):
    split = record_set.split("database")
    vectors = np.random.default_rng(0).normal(size=(len(split), 5)).astype(np.float32)
    Descriptors(vectors[::-1].copy(), split.ids[::-1], {"model": "m"}).save(tmp_path / "db")
    return tmp_path / "db"


@pytest.fixture(scope="module")
def export_vectors(load_script):
    return load_script("pipelines.export_vectors")


def export(export_vectors, **values):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**values):
        export_vectors.main()


def test_the_file_has_what_the_records_say_of_each_photo(export_vectors, described, record_set, tmp_path, capsys):
    export(
        export_vectors,
        descriptors=str(described),
        records=str(record_set.directory),
        split="database",
        output=str(tmp_path / "db.parquet"),
        rows_in_group=5,
    )
    found, columns, told = read_parquet(tmp_path / "db.parquet")
    np.testing.assert_array_equal(found.vectors, Descriptors.load(described).vectors)
    split = record_set.split("database")
    for photo, instance, height, width in zip(
        found.ids, columns["instance"], columns["height"], columns["width"], strict=True
    ):
        row = split.ids.index(photo)
        assert instance == record_set.labels[split.labels[row]] == photo.rsplit("/", 1)[0]
        assert [height, width] == split.sizes[row].tolist()
    assert told["data"] == {"records": record_set.sha256} and told["flags"]["rows_in_group"] == 5
    assert "12 descriptors of 5 dimensions, columns id, descriptor, instance, height, width" in capsys.readouterr().out


def test_other_records_are_refused(export_vectors, described, record_set, tmp_path):
    with pytest.raises(InputError, match="lacks 12 of 12 photos in 'queries'"):
        export(
            export_vectors,
            descriptors=str(described),
            records=str(record_set.directory),
            split="queries",
            output=str(tmp_path / "db.parquet"),
        )
