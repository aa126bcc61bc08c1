"""Extracts the descriptors of records through a server, a SavedModel, or a training run's network.

Example: python -m pipelines.extract --server=localhost:8500 --records=runs/records --split=queries --output=runs/q
"""

from absl import flags

from export import describing
from export.client import DescriptorClient
from pipelines import script
from tfretrieval import console, provenance
from tfretrieval.data.record_set import RecordSet
from tfretrieval.errors import InputError

FLAGS = flags.FLAGS

flags.DEFINE_string("server", None, "HOST:PORT of a TensorFlow Serving gRPC port (or of export.serve).")
flags.DEFINE_string("model", None, "Folder of a SavedModel, or a run directory, to use in this process instead.")
flags.DEFINE_string("model_name", "descriptor", "Name of the model on the server.")
flags.DEFINE_enum("which", "best", ["best", "last", "untrained"], "Of a run directory: the network.")
flags.DEFINE_string("records", None, "Directory that pipelines.make_records wrote.", required=True)
flags.DEFINE_string("split", None, "Split to describe; may be left out where there is only one.")
flags.DEFINE_string("output", None, "Directory to write: vectors.npy, ids.txt, meta.json.", required=True)
flags.DEFINE_integer("batch", 32, "Most photos in one request.", lower_bound=1)
flags.DEFINE_float("timeout", 60.0, "Seconds that one request may take, with its retries.", lower_bound=0.001)


def main() -> None:
    """Extracts and prints what was written."""
    if bool(FLAGS.server) == bool(FLAGS.model):
        raise InputError("exactly one of --server=HOST:PORT and --model=DIR is wanted.")
    records = RecordSet.load(FLAGS.records)
    split = records.split(FLAGS.split)
    header = provenance.header(script.flag_values(main), None, {"records": records.sha256})
    bar = lambda total: console.progress(None, f"describing {split.name}", total=total)  # noqa: E731
    if FLAGS.model:
        found = describing.from_model(FLAGS.model, FLAGS.batch, FLAGS.which).extract(split, bar, header)
    else:
        with DescriptorClient(
            FLAGS.server, FLAGS.model_name, timeout=FLAGS.timeout, max_batch_photos=FLAGS.batch
        ) as client:
            found = describing.from_server(client).extract(split, bar, header)
    found.save(FLAGS.output)
    script.save_flags(main, FLAGS.output)
    console.say(
        f"wrote {FLAGS.output}: {len(found)} descriptors of {found.vectors.shape[1]} dimensions, "
        f"{found.meta['milliseconds_per_photo']:.1f} ms a photo"
    )


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
