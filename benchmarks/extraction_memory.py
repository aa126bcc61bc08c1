"""Peak memory of `pipelines.extract --shards` over few photos and over ten times as many, each in its own process.

Small photos through a small network, so that what grows with their number would show. The peak is what the system says
of the whole process, files' pages included.
Example: python -m benchmarks.extraction_memory --few=10000 --times=10
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from benchmarks import extraction_photos, timing
from pipelines import script

FLAGS = flags.FLAGS

flags.DEFINE_integer("few", 10_000, "Photos of the smaller set.", lower_bound=1)
flags.DEFINE_integer("times", 10, "How many times as many the larger one has.", lower_bound=2)
flags.DEFINE_integer("size", 32, "Longer side of the photos in pixels.", lower_bound=1)
flags.DEFINE_integer("photos_per_shard", 2000, "Photos of a shard.", lower_bound=1)
flags.DEFINE_string("backbone", "small_resnet", "Network trunk, with random weights.")
_DISTINCT = 64


def extract(run: Path, records: Path, output: Path, shards: int) -> tuple[float, float]:
    """Runs `pipelines.extract`; returns its peak memory in MB, and its seconds."""
    command = [sys.executable, "-m", "pipelines.extract", f"--model={run}", f"--records={records}"]
    start = time.perf_counter()
    child = subprocess.Popen([*command, f"--output={output}", f"--shards={shards}"])
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"pipelines.extract ended with {status}")
    return usage.ru_maxrss / 1024, time.perf_counter() - start


def main() -> None:
    """Measures both and prints the ratio."""
    peaks, seconds = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        extraction_photos.write_run(folder / "run", FLAGS.backbone, FLAGS.size)
        for photos in (FLAGS.few, FLAGS.few * FLAGS.times):
            own = folder / str(photos)
            extraction_photos.write_records(own, photos, FLAGS.size, min(_DISTINCT, photos))
            shards = -(-photos // FLAGS.photos_per_shard)
            peak, taken = extract(folder / "run", own / "records", own / "output", shards)
            peaks[str(photos)], seconds[str(photos)] = round(peak, 1), [round(taken, 1)]
            print(f"{photos:>10} photos: {peak:8.1f} MB at most, {taken:7.1f} s", flush=True)
    few, many = peaks.values()
    print(f"{many / few - 1:+.1%} for {FLAGS.times} times the photos")
    figures = {"peak_mb": peaks, "ratio": many / few}
    timing.write("extraction_memory", seconds, figures, script.flag_values(main))


if __name__ == "__main__":
    script.run_main(main)
