import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfretrieval import files

ROOT = Path(__file__).parents[2]
A, B, X, Y = "a000000000000000", "b000000000000000", "1000000000000000", "2000000000000000"


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "recognition.csv").write_text(f"id,landmarks,Usage\n{A},7,Public\n{B},,Private\n{X},1,Ignored\n")
    (tmp_path / "recognised.csv").write_text(f"id,landmarks\n{A},7 0.5\n{B},3 0.9\n")
    (tmp_path / "retrieval.csv").write_text(f"id,images,Usage\n{A},{X} {Y},Public\n{B},{Y},Private\n")
    (tmp_path / "retrieved.csv").write_text(f"id,images\n{A},{Y} {B} {X}\n")
    return tmp_path


def run(inputs, task, solution, predictions):
    command = [
        sys.executable, "-m", "pipelines.score_landmarks", f"--task={task}", f"--solution={inputs / solution}",
        f"--predictions={inputs / predictions}", f"--output={inputs / 'out' / 'scores.json'}",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ, timeout=120, check=False)


def test_recognition(inputs):
    done = run(inputs, "recognition", "recognition.csv", "recognised.csv")
    assert done.returncode == 0, done.stderr
    assert "public: gap 1.0000, gap_landmarks_only 1.0000, top1_accuracy 1.0000 (1 of 1 photos answered)" in done.stdout
    assert "private: gap not defined, gap_landmarks_only not defined" in done.stdout
    assert "all: gap 0.5000, gap_landmarks_only 1.0000" in done.stdout
    made = json.loads((inputs / "out" / "scores.json").read_text())
    assert list(made)[:5] == ["flags", "versions", "seed", "data", "protocol"]
    assert made["flags"]["task"] == "recognition" and made["protocol"]["name"] == "landmarks_recognition"
    assert made["data"]["solution"] == files.sha256(inputs / "recognition.csv")
    assert made["scores"]["private"]["gap"] is None and made["scores"]["all"]["gap"] == 0.5
    assert made["ignored"] == 1


def test_retrieval(inputs):
    done = run(inputs, "retrieval", "retrieval.csv", "retrieved.csv")
    assert done.returncode == 0, done.stderr
    assert "public: map@100 0.8333 (1 of 1 photos answered)" in done.stdout  # (1 + 2/3) / 2
    assert "all: map@100 0.4167 (1 of 2 photos answered)" in done.stdout
    made = json.loads((inputs / "out" / "scores.json").read_text())
    assert made["scores"]["public"]["map@100"] == pytest.approx((1 + 2 / 3) / 2)
    assert len(made["scores"]["all"]["mean_precision"]) == 100


def test_a_fault_is_one_sentence(inputs):
    (inputs / "retrieved.csv").write_text(f"id,images\n{X},{Y}\n")
    done = run(inputs, "retrieval", "retrieval.csv", "retrieved.csv")
    assert done.returncode == 2
    assert done.stderr.strip().startswith("error: ") and "line 2: id is '1000000000000000'" in done.stderr
    assert not (inputs / "out").exists()
