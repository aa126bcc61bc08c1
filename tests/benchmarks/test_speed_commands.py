"""Each benchmark of speed runs at a tiny size, and its sides compute the same thing."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TINY = {
    "machine": ("--matrix=128", "--megabytes=1", "--jpegs=2", "--jpeg_size=48,64"),
    "search_peers": ("--database=3000", "--queries=20", "--dimension=32", "--k=5"),
    "decoding_peers": ("--photos=8", "--jpeg_size=96,128", "--size=32", "--batch=4"),
}
TINY_TORCH = {
    "peers": ("--architecture=resnet18", "--photos=4", "--size=96", "--matrix=128"),
    "training_peers": ("--size=64", "--instances=2", "--steps=1"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the commands wrote, by name; they run side by side."""
    output, given = tmp_path_factory.mktemp("benchmarks"), dict(TINY)
    if importlib.util.find_spec("torch"):
        given |= TINY_TORCH
    running = {}
    for name, arguments in given.items():
        command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--rounds=1", f"--output={output}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        running[name] = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, **pipes)
    for name, process in running.items():
        told, _ = process.communicate()
        assert process.returncode == 0, f"{name}: {told}"
    for path in output.glob("*.json"):
        assert path.with_suffix(".svg").is_file()
    return {path.stem: json.loads(path.read_text()) for path in output.glob("*.json")}


def test_the_machines_limits_are_told(written):
    assert all(rate > 0 for rate in written["machine_matrix"]["gigaflops"].values())
    assert set(written["machine_jpeg"]["photos_per_second"]) == {"TensorFlow", "OpenCV", "Pillow"}
    assert set(written["machine_memory"]["GB_per_second"]) == {"all cores", "one core"}


def test_searches_find_the_same_rows(written):
    found = written["search_peers"]["same_places"]
    assert len(found) >= 2 and all(share > 0.99 for share in found.values())  # equal but for rounding


def test_views_are_held_against_the_bare_decoding(written):
    found = written["decoding_peers"]
    (bare,) = {each["against"] for each in found["wanted"] if each["wanted"] == 0.9}
    rates = {name: rate for name, rate in found["photos_per_second"].items() if name.startswith("bare decoding")}
    assert bare in rates and len(rates) == 3


def resnet18_flops(height, width):
    """Two for each multiply-add of the convolutions, from the paper's table."""
    halves = lambda length, times: -(-length // 2**times)  # noqa: E731 - every stride rounds up
    total = halves(height, 1) * halves(width, 1) * 49 * 3 * 64
    for stage, channels in enumerate((64, 128, 256, 512)):
        before = channels // 2 if stage else channels
        shortcut = before * channels if stage else 0
        inside = 9 * (before * channels + 3 * channels * channels) + shortcut
        total += halves(height, 2 + stage) * halves(width, 2 + stage) * inside
    return 2 * total


def test_all_sides_of_the_extraction_give_the_same_descriptors(written):
    pytest.importorskip("torch")
    found = written["peers"]
    assert len(found["min_cosine"]) >= 7
    for side, cosine in found["min_cosine"].items():
        assert cosine > (0.9999 if "bfloat16" in side else 0.999999), side
    assert {"this toolkit, float32", "PyTorch channels-last"} < set(found["photos_per_second"])
    network = sum(resnet18_flops(int(96 * scale), int(72 * scale)) for scale in (1, 0.5**0.5, 0.5))
    assert 1 <= found["gflop_per_photo"] * 1e9 / network < 1.05  # beside the network, the resizing to its scales


def test_training_steps_of_both_sides_lower_the_loss(written):
    pytest.importorskip("torch")
    for side, losses in written["training_peers"]["losses"].items():
        assert losses[-1] < losses[0], side
