"""Serves a page on this machine that searches saved descriptors by photo, through a model server.

Example: python -m pipelines.search_app --server=localhost:8500 --index=runs/database --records=runs/records
"""

import signal
import threading

from absl import flags

from export.search_page import ModelServer, PageServer, PageSettings, PhotoIndex, SearchPage, photo_sources
from export.search_page.api import PageApi
from export.search_page.why import Contributions
from pipelines import script
from tfretrieval import console
from tfretrieval.errors import InputError
from tfretrieval.evaluation.album import Photos

FLAGS = flags.FLAGS

flags.DEFINE_string("server", None, "HOST:PORT of a TensorFlow Serving gRPC port (or of export.serve).", required=True)
flags.DEFINE_string("model_name", "descriptor", "Name of the model on the server.")
flags.DEFINE_string("index", None, "Directory that pipelines.extract wrote, with --objects or without.", required=True)
flags.DEFINE_string("records", None, "Record set of the index's photos; the one that was described by default.")
flags.DEFINE_string("split", None, "Split of --records; the one that was described by default.")
flags.DEFINE_string("photos", None, "Folder of the index's photos, named by their ids, instead of --records.")
flags.DEFINE_string("checkpoint", None, "Run of the network, to show what its positions add to a similarity.")
flags.DEFINE_float("timeout", 30.0, "Seconds that the server may take for an answer.", lower_bound=0.1)
script.define_flags(PageSettings)


def indexed_photos(index: PhotoIndex) -> Photos:
    """Returns the photos of an index, from where the flags or the index itself say.

    Raises:
        InputError: neither says it, both flags do, or the photos are not there.
    """
    if FLAGS.photos and (FLAGS.records or FLAGS.split):
        raise InputError("--photos does not go with --records and --split; one of the two is wanted.")
    if FLAGS.photos:
        return photo_sources.from_folder(FLAGS.photos, index.ids)
    records = FLAGS.records or (index.meta.get("flags") or {}).get("records")
    if not records:
        raise InputError(f"--index={index.name} does not tell its records; --records=DIR or --photos=DIR is wanted.")
    return photo_sources.from_records(records, FLAGS.split or index.meta.get("split"), index.ids)


def main() -> None:
    """Serves the page until it is interrupted or terminated."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    settings = script.from_flags(PageSettings)
    index = PhotoIndex.load(FLAGS.index)
    photos = indexed_photos(index)
    contributions = Contributions.load(FLAGS.checkpoint, index) if FLAGS.checkpoint else None
    server = ModelServer(FLAGS.server, FLAGS.model_name, FLAGS.timeout)
    api = PageApi(SearchPage(index, photos, server, settings.results, contributions))
    with PageServer(api, settings) as page:
        console.say(f"searching {len(index):,} photos by {FLAGS.server}: open {page.url} (Ctrl-C stops)")
        stop.wait()
    server.close()


def run() -> None:
    """Runs the script from the command line."""
    script.run_main(main)


if __name__ == "__main__":
    run()
