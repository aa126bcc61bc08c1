import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfretrieval.data.sources import PhotoEntry
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.descriptors import Descriptors

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A benchmark of two instances and its descriptors, the first query's pointing at the wrong instance."""
    directory = tmp_path_factory.mktemp("inputs")
    entries = []
    for number in range(8):
        path = directory / f"{number}.png"
        Image.new("RGB", (32, 24), (30 * number, 90, 200)).save(path)
        entries.append(PhotoEntry(f"p{number}", path, f"i{number % 2}", "queries" if number < 2 else "database"))
    records = write_record_set(entries, directory / "records", WriteOptions("tiny"))[0]
    for split in ("queries", "database"):
        photos = records.split(split)
        labels = np.ones(2, int) if split == "queries" else photos.labels
        meta = {"model_sha256": split, "image_size": 32, "data": {"records": records.sha256}}
        Descriptors(np.eye(2, dtype=np.float32)[labels], photos.ids, meta).save(directory / split)
    return directory


def run(inputs, output, **changes):
    values = {
        "benchmark": inputs / "records",
        "queries": inputs / "queries",
        "database": inputs / "database",
        "output": output,
    } | changes
    command = [sys.executable, "-m", "pipelines.evaluate", *(f"--{name}={value}" for name, value in values.items())]
    # With this variable set, TensorFlow's start-up lines are shown on purpose.
    quiet = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=quiet, timeout=120, check=False)


def test_numbers_and_page_are_written_and_told(inputs, tmp_path):
    output = tmp_path / "report"
    done = run(inputs, output)
    assert done.returncode == 0, done.stderr
    made = json.loads((output / "metrics.json").read_text())
    # Of six database photos, the first query's three follow three wrong ones: (1/4 + 2/5 + 3/6) / 3.
    assert made["map"] == pytest.approx((1 + (1 / 4 + 2 / 5 + 3 / 6) / 3) / 2)
    assert (made["recall_at_1"], made["recall_at_5"], made["queries"], made["database"]) == (0.5, 1.0, 2, 6)
    assert made["per_query"][0] == {
        "id": "p0",
        "instance": "i0",
        "ap": pytest.approx((1 / 4 + 2 / 5 + 3 / 6) / 3),
        "first_relevant_rank": 4,
    }
    assert made["flags"]["queries"] == str(inputs / "queries")
    assert "asymmetric" in made["notes"][0]
    assert "For <b>1 of 2</b> photos" in (output / "index.html").read_text()
    assert "--report_queries=100" in (output / "flags.txt").read_text()
    assert "R@1 50.0%" in done.stdout
    assert "asymmetric" in done.stdout
    assert str(output / "index.html") in done.stdout


def test_wrong_input_is_one_sentence_and_leaves_the_output_alone(inputs, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    done = run(inputs, tmp_path)
    assert done.returncode == 2
    assert "notes.txt" not in done.stderr
    assert done.stderr.strip().startswith(f"error: {tmp_path} holds other files and no metrics.json")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
