"""Evaluation of a judged benchmark and comparison of two results, as a user runs them."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfretrieval.data.benchmark_sources import JUDGED_SOURCES
from tfretrieval.data.sources import SourceOptions
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.descriptors import Descriptors

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TRUTH = {
    "imlist": [f"photo_{number}" for number in range(8)],
    "qimlist": ["asked_0", "asked_1"],
    "gnd": [
        {"bbx": [0.0, 0.0, 20.0, 20.0], "easy": [2], "hard": [3, 0], "junk": [1]},
        {"bbx": [0.0, 0.0, 24.0, 24.0], "easy": [], "hard": [4, 5], "junk": []},
    ],
}
# Similarities of the eight photos: ranked 0 1 2 3 4 5 6 7 for the first query, 7 6 5 4 3 2 1 0 for the second.
RANKED = np.linspace(0.9, 0.1, 8, dtype=np.float32)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    (folder / "jpg").mkdir()
    for number, name in enumerate(TRUTH["imlist"] + TRUTH["qimlist"]):
        Image.new("RGB", (32, 24), (25 * number, 90, 200)).save(folder / "jpg" / f"{name}.jpg")
    (folder / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(TRUTH, 3))
    judged = JUDGED_SOURCES["roxford5k"](folder, SourceOptions())
    options = WriteOptions("roxford5k", judged=judged)
    records = write_record_set(judged.entries, folder / "records", options)[0]
    angle = np.arccos(RANKED)
    database = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    queries = np.array([[1, 0], [0, 1]], np.float32)
    meta = {"model_sha256": "ab" * 32, "image_size": 32, "data": {"records": records.sha256}}
    Descriptors(database, records.split("database").ids, meta).save(folder / "database")
    for crop in ("scaled", "none"):
        told = {**meta, "query_crop": crop, "trained_on": "GLDv2-clean"}
        Descriptors(queries, records.split("queries").ids, told).save(folder / f"queries_{crop}")
    return folder


def run(script, *given):
    quiet = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", f"pipelines.{script}", *map(str, given)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=quiet, timeout=200, check=False)


def evaluate(inputs, output, *more, queries="queries_scaled"):
    places = {"benchmark": "records", "queries": queries, "database": "database"}
    done = run("evaluate", *(f"--{flag}={inputs / name}" for flag, name in places.items()), f"--output={output}", *more)
    assert done.returncode == 0, done.stderr
    return json.loads((output / "metrics.json").read_text()), done.stdout


@pytest.fixture(scope="module")
def plain(inputs, tmp_path_factory):
    output = tmp_path_factory.mktemp("plain") / "report"
    return output, *evaluate(inputs, output)


def test_every_condition_is_in_the_result(plain):
    _, made, told = plain
    found = made["protocols"]
    assert list(found) == ["easy", "medium", "hard"]
    # First query: easy 2 with 0, 1 and 3 out: first. Second query has none.
    assert (found["easy"]["map"], found["easy"]["mp@1"], found["easy"]["queries"]) == (1, 1, 1)
    # First query, medium: 0, 2, 3 at places 0, 1, 2 (1 is junk). Second: 5 and 4 at places 2 and 3.
    second = ((0 + 1 / 3) / 2 + (1 / 3 + 2 / 4) / 2) / 2
    assert found["medium"]["map"] == pytest.approx((1 + second) / 2)
    assert found["medium"]["mp@5"] == pytest.approx((1 + 2 / 4) / 2)
    assert found["medium"]["mp@10"] == pytest.approx((1 + 2 / 4) / 2)
    assert found["hard"]["queries"] == 2
    # First query, hard: 0 and 3 at places 0 and 1, as 1 and 2 do not count.
    assert found["hard"]["map"] == pytest.approx((1 + second) / 2)
    assert made["map"] == found["medium"]["map"]
    assert (made["condition"], made["queries"], made["database"]) == ("medium", 2, 8)
    first = made["per_query"][0]
    assert first["aps"] == {"easy": 1, "medium": 1, "hard": 1}
    assert made["per_query"][1]["aps"]["easy"] is None
    assert "easy: mAP 100.0%  mP@1 100.0%" in told
    assert "(1 queries)" in told


def test_the_guard_tells_what_a_result_is_worth(plain, inputs, tmp_path):
    output, made, told = plain
    protocol = made["protocol"]
    assert (protocol["name"], protocol["ap"], protocol["query_crop"]) == ("revisited", "trapezoidal", "scaled")
    assert not protocol["valid"]  # this small ground truth is not the published one
    assert [reason[:16] for reason in protocol["reasons"]] == ["the ground truth"]
    assert "GLDv2-clean" in protocol["overlap"]
    assert protocol["overlap"] in made["notes"]
    assert made["data"]["ground_truth"] == protocol["ground_truth_sha256"]
    assert "Not comparable with published numbers" in told
    assert "the ground truth (SHA-256" in (output / "index.html").read_text()
    uncropped, _ = evaluate(inputs, tmp_path / "report", "--ap=rectangular", queries="queries_none")
    reasons = " ".join(uncropped["protocol"]["reasons"])
    assert "queries were described whole" in reasons
    assert "average precision is rectangular here" in reasons
    second = (1 / 3 + 2 / 4) / 2
    assert uncropped["map"] == pytest.approx((1 + second) / 2)


@pytest.mark.parametrize("junk", ["before", "after"])
def test_re_ranked_results_stand_beside_the_plain_ones(junk, plain, inputs, tmp_path):
    made, told = evaluate(inputs, tmp_path / "report", "--rerank=qe:k=1", f"--junk={junk}")
    assert made["before_reranking"]["protocols"] == plain[1]["protocols"]
    assert made["before_reranking"]["per_query_ap"]["medium"] == [query["ap"] for query in plain[1]["per_query"]]
    assert made["protocol"]["rerank"].startswith("qe:k=1")
    assert made["protocol"]["junk_and_reranking"] == f"junk is taken out {junk} re-ranking"
    assert set(made["protocols"]) == {"easy", "medium", "hard"}
    assert "before re-ranking:" in told


def test_two_results_are_compared(plain, inputs, tmp_path):
    other = tmp_path / "reranked"
    evaluate(inputs, other, "--rerank=qe:k=2")
    output = tmp_path / "comparison"
    flags = (f"--benchmark={inputs / 'records'}", "--condition=hard", "--names=plain,expanded")
    done = run("compare", plain[0], other / "metrics.json", f"--output={output}", *flags)
    assert done.returncode == 0, done.stderr
    made = json.loads((output / "comparison.json").read_text())
    assert made["condition"] == "hard"
    assert made["paired"]["exact"]
    assert len(made["per_query"]) == 2
    assert made["seed"] == 0
    assert "The runs differ in rerank" in done.stdout
    assert "exact permutation test" in done.stdout
    assert "expanded" in (output / "index.html").read_text()
    repeated = run("compare", f"--flagfile={output / 'flags.txt'}", plain[0], other)
    assert repeated.returncode == 0, repeated.stderr


def test_wrong_words_are_one_sentence(plain, tmp_path):
    one = run("compare", plain[0])
    assert (one.returncode, one.stderr) == (2, "error: 1 of 2 arguments; A and B are wanted.\n")
    three = run("compare", plain[0], plain[0], "c")
    assert (three.returncode, three.stderr) == (2, "error: 'c' is not a flag; flags are written --name=value.\n")
    missing = run("compare", plain[0], tmp_path / "missing.json")
    assert missing.returncode == 2
    assert "missing.json is missing; a result of pipelines.evaluate is wanted there." in missing.stderr
