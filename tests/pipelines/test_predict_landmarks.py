import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfretrieval.descriptors import Descriptors

ROOT = Path(__file__).parents[2]
TESTS = ("a000000000000000", "b000000000000000")


def run(tmp_path, *flags):
    command = [
        sys.executable, "-m", "pipelines.predict_landmarks", f"--queries={tmp_path / 'q'}",
        f"--database={tmp_path / 'db'}", f"--output={tmp_path / 'out' / 'predictions.csv'}", *flags,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ, timeout=120, check=False)


def written(tmp_path):
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def described(record_set, tmp_path):
    """Training photos on the axis of their instance, and two test photos near the first and the second instance."""
    split = record_set.split("train")
    axes = np.eye(8, dtype=np.float32)
    shown = np.unique(split.labels)
    Descriptors(axes[np.searchsorted(shown, split.labels)], split.ids).save(tmp_path / "db")
    queries = np.stack([0.8 * axes[0] + 0.6 * axes[7], 0.6 * axes[1] + 0.8 * axes[7]])
    Descriptors(queries.astype(np.float32), TESTS).save(tmp_path / "q")
    return [record_set.labels[label] for label in shown]


def test_recognition(record_set, described, tmp_path):
    done = run(tmp_path, "--task=recognition", f"--records={record_set.directory}", "--neighbours=2")
    assert done.returncode == 0, done.stderr
    header, *rows = written(tmp_path)
    assert header == ["id", "landmarks"]
    for row, photo, landmark, score in zip(rows, TESTS, described, (1.6, 1.2), strict=False):
        name, said = row[1].rsplit(" ", 1)
        assert (row[0], name) == (photo, landmark)
        assert float(said) == pytest.approx(score, rel=1e-6)


@pytest.mark.usefixtures("described")
def test_retrieval(record_set, tmp_path):
    done = run(tmp_path, "--task=retrieval")
    assert done.returncode == 0, done.stderr
    header, *rows = written(tmp_path)
    assert header == ["id", "images"] and [row[0] for row in rows] == list(TESTS)
    split = record_set.split("train")
    first = [photo for photo, label in zip(split.ids, split.labels, strict=True) if label == split.labels.min()]
    assert rows[0][1].startswith(" ".join(first))


@pytest.mark.usefixtures("described")
def test_recognition_wants_records(tmp_path):
    done = run(tmp_path, "--task=recognition")
    assert done.returncode == 2
    assert done.stderr.strip().startswith("error: --task=recognition: --records") and not (tmp_path / "out").exists()
