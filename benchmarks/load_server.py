"""The local server at twice what it can do, its model swapped all the while and its clients killed.

First the most that clients get out of it is measured. Then clients send twice as much at random times, one of them is
killed every few seconds, and every --swap_seconds a version of another network takes over, whose descriptors differ;
between swaps a half-copied version appears, which must not be seen, and a damaged one, which must not take over. Every
answer has to be the descriptor by the version that it names, every accepted request has to be answered, and what is
too much has to be refused as such. Ends with status 1 where anything is not so.
Example: python -m benchmarks.load_server --minutes=10
"""

import sys
import tempfile
from pathlib import Path

from absl import flags

from benchmarks.served import serving
from benchmarks.served.server_load import LoadSettings, load
from benchmarks.served.serving import ServedNetwork
from export.example_photos import example_photos
from pipelines import script
from tfretrieval import files, provenance

FLAGS = flags.FLAGS

flags.DEFINE_float("minutes", 10, "How long the load lasts.", lower_bound=0.05)
flags.DEFINE_string("output", "runs/benchmarks/load_server.json", "File for the figures.")
script.define_flags(ServedNetwork)

PHOTOS = 8
_NOISE = 0.3  # on the second network's kernels


script.define_flags(LoadSettings)


def main() -> None:
    """Exports two networks, loads the server with them, and prints the figures."""
    served = script.from_flags(ServedNetwork)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        networks = served.build(), serving.shaken(served.build(), _NOISE)
        sources = [
            serving.export_version(network, served.size, folder / f"source{number}")
            for number, network in enumerate(networks)
        ]
        photos = example_photos(2 * served.size, PHOTOS)
        settings = script.from_flags(LoadSettings)
        found = load(_made(folder / "model"), sources, photos, 60 * FLAGS.minutes, settings)
    files.write_json(FLAGS.output, {**provenance.header(script.flag_values(main), settings.seed, {}), **found})
    for name, value in found.items():
        print(f"{name:>30}: {value}")
    if found["faults"]:
        sys.exit(1)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    script.run_main(main)
