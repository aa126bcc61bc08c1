"""Whether the Keras network, its SavedModel in process and in a session, and the local server say the same of photos.

Real photos, and sixty odd ones: of every orientation, colour space and format, a pixel small or 5,000 long. Three
things are compared: the photos' records in all ways (`pipelines.extract` reads these), the photos as clients send them
in all ways, and each photo alone with itself in any company, also of photos that are broken. Broken photos have to be
refused in every way. Ends with status 1 where anything disagrees.
Example: python -m benchmarks.served_parity --photos=300
"""

import sys
import tempfile
from pathlib import Path

from absl import flags

from benchmarks.served import serving
from benchmarks.served.odd_photos import odd_photos
from benchmarks.served.serving import ServedNetwork
from benchmarks.served.ways_compared import measure, real_photos
from pipelines import script
from tfretrieval import files, provenance

FLAGS = flags.FLAGS

flags.DEFINE_string("data", "../shared/data/grocery/dataset", "GroceryStoreDataset's folder, for real photos.")
flags.DEFINE_integer("photos", 300, "How many real photos.", lower_bound=0)
flags.DEFINE_integer("seed", 0, "Seed of the odd photos and of the batches.")
flags.DEFINE_string("output", "runs/benchmarks/served_parity.json", "File for the figures.")
script.define_flags(ServedNetwork)

LEAST_COSINE = 0.99999


def main() -> None:
    """Exports a network, serves it, and compares."""
    served = script.from_flags(ServedNetwork)
    network, photos = served.build(), {**real_photos(Path(FLAGS.data), FLAGS.photos), **odd_photos(FLAGS.seed)}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "model"
        version = serving.export_version(network, served.size, base)
        with serving.ServerProcess(base, "--enable_batching") as server:
            found = measure(network, served.size, version, server, photos, FLAGS.seed, Path(folder))
    files.write_json(FLAGS.output, {**provenance.header(script.flag_values(main), FLAGS.seed, {}), **found})
    for what in ("records", "sent", "in_company"):
        told = found[what]
        print(f"{what:>12}: {told['photos']} photos, cosine {told['min_cosine']:.7f} at least ({told['worst']});")
        print(f"{'':>12}  the nearest other photo has {told['next_cosine']:.3f}")
    print(f"broken photos that were taken: {found['broken_taken'] or 'none'}")
    least = min(found[what]["min_cosine"] for what in ("records", "sent", "in_company"))
    if found["broken_taken"] or least < LEAST_COSINE:
        sys.exit(1)


if __name__ == "__main__":
    script.run_main(main)
