"""Writes descriptors as a Parquet file, to load into a vector database in bulk.

Example: python -m pipelines.export_vectors --descriptors=runs/db --records=runs/records --split=database
--output=runs/db.parquet
"""

import importlib.util

from absl import flags

from pipelines import script
from tfretrieval import console, provenance
from tfretrieval.data.record_set import RecordSet
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string("descriptors", None, "Directory that pipelines.extract wrote.", required=True)
flags.DEFINE_string("output", None, "File to write; docs/vector_databases.md tells what is in it.", required=True)
flags.DEFINE_enum("format", "parquet", ["parquet"], "Format of the file.")
flags.DEFINE_string("records", None, "Record set of the photos: adds the columns instance, height and width.")
flags.DEFINE_string("split", None, "With --records: the photos' split; may be left out where there is only one.")
flags.DEFINE_integer("rows_in_group", 16_384, "Rows of a row group, which are in memory together.", lower_bound=1)


def main() -> None:
    """Writes the file and prints what was written."""
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError("--format=parquet needs pyarrow, which is not installed; pip install pyarrow is wanted.")
    from tfretrieval import parquet_vectors

    found = Descriptors.load(FLAGS.descriptors)
    records = RecordSet.load(FLAGS.records) if FLAGS.records else None
    columns = _columns(records, found) if records else {}
    data = {"records": records.sha256} if records else {}
    header = provenance.header(script.flag_values(main, without=("output",)), None, data)
    digest = parquet_vectors.write_parquet(found, FLAGS.output, columns, header, FLAGS.rows_in_group)
    console.say(
        f"wrote {FLAGS.output}: {len(found)} descriptors of {found.vectors.shape[1]} dimensions, columns "
        f"{', '.join(('id', 'descriptor', *columns))} (SHA-256 {digest[:12]})"
    )


def _columns(records: RecordSet, found: Descriptors) -> dict[str, list]:
    """Returns what the records say of the photos."""
    split = records.split(FLAGS.split)
    row_of = {photo: row for row, photo in enumerate(split.ids)}
    missing = [photo for photo in found.ids if photo not in row_of]
    if missing:
        raise InputError(
            f"--records={FLAGS.records} lacks {len(missing)} of {len(found)} photos in {split.name!r}, first "
            f"{missing[0]!r}; the records that were described are wanted."
        )
    rows = [row_of[photo] for photo in found.ids]
    return {
        "instance": [records.labels[label] for label in split.labels[rows]],
        "height": split.sizes[rows, 0],
        "width": split.sizes[rows, 1],
    }


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
