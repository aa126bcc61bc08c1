"""Extraction from records of JPEG files against the network alone on the same batches, decoded and in memory.

Of a side's time, decode, resize and write are what the network alone does not do; the ratio is the share of the
network's own rate that extraction reaches. Both sides run the frozen network in the same batches.
Example: python -m benchmarks.extraction --precision=bfloat16
"""

import dataclasses
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import extraction_photos, timing
from export.running import RunningOptions, extractor_of, prepare
from pipelines import script
from tfretrieval.data.batch_plan import BatchPlan
from tfretrieval.data.photo_batches import read_batches
from tfretrieval.data.photo_store import PhotoRows
from tfretrieval.data.record_set import RecordSet, Split
from tfretrieval.extraction import Extractor
from tfretrieval.sharded_descriptors import ShardedDescriptors
from tfretrieval.sharded_extraction import PartDescriber, Speed, extract_shards

FLAGS = flags.FLAGS

flags.DEFINE_string("backbone", "resnet50", "Network trunk, with random weights.")
flags.DEFINE_list("scales", ["1", "0.7071", "0.5"], "Factors on the photos' sides.")
flags.DEFINE_integer("image_size", 1024, "Longer side of the photos in pixels.", lower_bound=1)
flags.DEFINE_integer("stored_size", 0, "Longer side of the JPEG files; 0 for the image size.", lower_bound=0)
flags.DEFINE_integer("photos", 12, "Photos of one run, in four shapes.", lower_bound=1)
flags.DEFINE_integer("shards", 2, "Shards that they are written in.", lower_bound=1)
flags.DEFINE_integer("batch", 32, "Most photos run together.", lower_bound=1)
flags.DEFINE_string("records", None, "Record set to take instead of generated photos: its split of the most photos.")
flags.DEFINE_integer("rounds", 3, "Timed runs of each side.", lower_bound=1)
script.define_flags(RunningOptions)


def extract(extractor: Extractor, split: Split, output: Path, shards: int) -> Speed:
    """Describes a split into a fresh directory shard by shard, as `pipelines.extract --shards` does."""
    photos = PhotoRows.of(split, extractor.longer_side)
    describer = PartDescriber(
        lambda parts, update: extractor.parts(photos, parts, update), lambda: extractor.busy_seconds
    )
    return extract_shards(ShardedDescriptors.open(output, {}, len(split), shards), describer, split.ids, split.name, {})


def batches_of(extractor: Extractor, split: Split, shards: int) -> list[np.ndarray]:
    """Returns the batches that `extract` runs, decoded."""
    photos = PhotoRows.of(split, extractor.longer_side)
    ends = [len(split) * shard // shards for shard in range(shards + 1)]
    plans = [extractor.plan(photos, range(*part)) for part in itertools.pairwise(ends)]
    return [batch.photos for batch in read_batches(photos, BatchPlan.join(plans))]


def sides(extractor: Extractor, split: Split, folder: Path, shards: int, speeds: list[Speed]) -> dict[str, Callable]:
    """Returns what is timed, the network alone last; `speeds` gathers how extractions went."""
    batches, numbers = batches_of(extractor, split, shards), itertools.count()
    return {
        "extraction from records": lambda: speeds.append(
            extract(extractor, split, folder / str(next(numbers)), shards)
        ),
        "network alone": lambda: [extractor.run(batch) for batch in batches],
    }


def main() -> None:
    """Times both sides."""
    running = script.from_flags(RunningOptions)
    prepare(running)
    scales = tuple(map(float, FLAGS.scales))
    with tempfile.TemporaryDirectory() as temporary:
        folder, speeds = Path(temporary), []
        if FLAGS.records:
            split = max(RecordSet.load(FLAGS.records).splits.values(), key=len)
            split = split.part(range(min(FLAGS.photos, len(split))))
        else:
            stored = FLAGS.stored_size or FLAGS.image_size
            split = extraction_photos.write_records(folder, FLAGS.photos, stored).split("train")
        network = extraction_photos.network(FLAGS.backbone, scales)
        extractor, measured = extractor_of(network, FLAGS.image_size, FLAGS.batch, running)
        timed = sides(extractor, split, folder, min(FLAGS.shards, len(split)), speeds)
        seconds = timing.in_turn(timed, FLAGS.rounds)
    settings = {**script.flag_values(main), **dataclasses.asdict(running), "measured": measured}
    name = f"extraction_{running.precision}"
    result = timing.report(name, seconds, len(split), settings)
    shares = [speed.as_json()["share_of_time"] for speed in speeds[1:]]
    told = {part: float(np.median([share[part] for share in shares])) for part in shares[0]}
    print(", ".join(f"{part} {share:.1%}" for part, share in told.items()), "of the time of extraction")
    timing.write(name, seconds, {**result, "share_of_time": told}, settings)


if __name__ == "__main__":
    script.run_main(main)
