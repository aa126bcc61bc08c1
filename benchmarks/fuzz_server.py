"""Wrong requests and broken image files against the local server, with right requests among them.

The server is a process of its own. Every wrong request has to be answered by a status that says what it is, in time and
without the server's memory growing beyond a bound; every right one by the descriptor of its photo; and a broken file
that is described after all, by the same descriptor twice. The first fault of each kind is printed; ends with status 1
where there are any.
Example: python -m benchmarks.fuzz_server --requests=5000 --files=5000 --seed=0
"""

import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from benchmarks.served import serving
from benchmarks.served.fuzz_client import FuzzClient
from benchmarks.served.fuzzing import faults_of_the_process, fuzz, header_milliseconds, known_photos, own_lines, summary
from benchmarks.served.serving import ServedNetwork
from export.sent_photos import PhotoLimits
from pipelines import script
from tfretrieval import files, provenance

FLAGS = flags.FLAGS

flags.DEFINE_integer("requests", 5000, "Wrong requests.", lower_bound=0)
flags.DEFINE_integer("files", 5000, "Broken image files.", lower_bound=0)
flags.DEFINE_integer("seed", 0, "Seed of what is wrong with them.")
flags.DEFINE_integer("workers", 6, "Requests at a time.", lower_bound=1)
flags.DEFINE_integer("max_pixels", 16_000_000, "The export's limit of pixels, which bounds its memory.", lower_bound=1)
flags.DEFINE_integer("most_megabytes", 1000, "How far the server's memory may grow, in MB.", lower_bound=1)
flags.DEFINE_string("output", "runs/benchmarks/fuzz_server.json", "File for the figures.")
script.define_flags(ServedNetwork)


def main() -> None:
    """Exports a network, starts the server, and sends everything."""
    served = script.from_flags(ServedNetwork)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "model"
        limits = PhotoLimits(max_pixels=FLAGS.max_pixels)
        version = serving.export_version(served.build(), served.size, base, limits)
        photos, descriptors = known_photos(version)
        with serving.ServerProcess(base, "--enable_batching") as server:
            client = FuzzClient(server, photos, descriptors)
            for number in range(4 * len(photos)):
                client.describe_known(number)
            before, start = server.megabytes(), time.perf_counter()
            headers = header_milliseconds(client)
            outcomes = fuzz(client, FLAGS.requests, FLAGS.files, FLAGS.seed, FLAGS.workers)
            found = summary([*outcomes, client.describe_known(0)])
            found |= {"seconds": time.perf_counter() - start, "milliseconds_of_huge_headers": headers}
            found["server_is_running"] = server.is_running
            if server.is_running:
                found["megabytes"] = {"before": before, "after": server.megabytes(), "peak": server.megabytes(True)}
            found["log"] = own_lines(server.log())
    told = faults_of_the_process(found, FLAGS.most_megabytes)
    found["faults"] += len(told)
    found["first_faults"] += told
    files.write_json(FLAGS.output, {**provenance.header(script.flag_values(main), FLAGS.seed, {}), **found})
    _print(found)
    if found["faults"]:
        sys.exit(1)


def _print(found: dict) -> None:
    for kind, statuses in found["answers"].items():
        print(f"{kind:>28}: {', '.join(f'{status} {count}' for status, count in statuses.items())}")
    for name, milliseconds in found["milliseconds_of_huge_headers"].items():
        print(f"{name:>28}: refused in {milliseconds:.1f} ms")
    print(f"slowest: {found['slowest']['kind']}, {found['slowest']['seconds']:.2f} s")
    print(f"memory in MB: {found.get('megabytes')}; log: {found['log'] or 'empty'}")
    print(f"faults: {found['faults']}", *found["first_faults"], sep="\n  ")


if __name__ == "__main__":
    script.run_main(main)
