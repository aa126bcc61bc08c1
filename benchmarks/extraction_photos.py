"""What the benchmarks of extraction describe: records of generated JPEG files in several shapes, and runs of networks.

Everything follows from its arguments, so that other benchmarks measure the same photos and the same weights.
"""

import os
from pathlib import Path

import cv2
import numpy as np

from benchmarks.random_networks import random_network
from tfretrieval.data.record_set import RecordSet
from tfretrieval.data.sources import SourceOptions, read_folder
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.models.descriptor import add_scales
from tfretrieval.training.run_directory import RunDirectory

# Shares of the longer side, of tourists' photos: 4:3 and 3:2, lying and standing.
_SHAPES = ((3 / 4, 1), (1, 3 / 4), (2 / 3, 1), (1, 2 / 3))
_QUALITY = 90


def write_photos(folder: Path, count: int, longer_side: int, distinct: int | None = None, seed: int = 0) -> list[Path]:
    """Writes JPEG files with structures of all sizes, as large for their pixels as photos of a camera are.

    Args:
        folder: where.
        count: how many files.
        longer_side: pixels of the longer sides; four shapes in turn.
        distinct: how many of them differ; the others are links to these, which make 100,000 files quickly.
        seed: of what they show.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:07d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if distinct and number >= distinct:
            os.link(paths[number % distinct], path)
            continue
        rng, shape = np.random.default_rng([seed, number]), _SHAPES[number % len(_SHAPES)]
        height, width = (round(share * longer_side) for share in shape)
        layers = (
            cv2.resize(rng.normal(0, 1, (max(2, height >> level), max(2, width >> level), 3)), (width, height))
            for level in range(1, 8)
        )
        pixels = 128 + 20 * sum(layers)
        cv2.imwrite(str(path), pixels.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return paths


def write_records(folder: Path, count: int, longer_side: int, distinct: int | None = None, seed: int = 0) -> RecordSet:
    """Writes records of `write_photos`, all in the split "train", below a folder."""
    write_photos(folder / "photos" / "all", count, longer_side, distinct, seed)
    entries = read_folder(folder / "photos", SourceOptions())
    return write_record_set(entries, folder / "records", WriteOptions("generated"))[0]


def network(backbone: str, scales: tuple[float, ...] = (1.0,)):
    """Builds a network with random weights whose BatchNorm does something, over several scales where there are some."""
    single = random_network(backbone)
    return single if scales == (1.0,) else add_scales(single, scales)


def write_run(folder: Path, backbone: str, image_size: int, scales: tuple[float, ...] = (1.0,)) -> RunDirectory:
    """Writes a run directory around such a network, which `pipelines.extract` takes."""
    sizes = {"training": {"size": image_size, "image_size": image_size}, "protocol": {"image_size": image_size}}
    run = RunDirectory.create(folder, {"flags": {}, "seed": 0, "data": {}, **sizes}, resume=False)
    network(backbone, scales).save(run.model("best"))
    return run
