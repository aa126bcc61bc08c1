"""Public sets as users have them on disk, read, written, and opened as benchmarks that can be measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfretrieval.data.benchmark_sources import (
    JUDGED_SOURCES,
    LABEL_PROTOCOLS,
    LABELLED_SOURCES,
    PUBLISHED_COUNTS,
    published_notes,
)
from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.data.sources import SourceOptions
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.evaluation.benchmark import Benchmark
from tfretrieval.evaluation.protocols import PROTOCOLS

ROOT = Path(__file__).parents[2]


def photos(folder, names):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 16), (20 * number % 256, 90, 200)).save(folder / name)


def holidays(folder):
    photos(folder, ["jpg/100000.jpg", "jpg/100001.jpg", "jpg/100100.jpg", "jpg/100101.jpg"])


def copydays(folder):
    photos(folder, ["original/200000.jpg", "original/200100.jpg", "strong/200101.jpg", "crops/50/200000.jpg"])


def ukbench(folder):
    photos(folder, [f"full/ukbench{number:05d}.jpg" for number in range(8)])


def gldv2_retrieval(folder):
    index, test = ("a123", "b123"), ("c123", "d123")
    photos(folder, [f"index/{i[0]}/1/2/{i}.jpg" for i in index] + [f"test/{i[0]}/1/2/{i}.jpg" for i in test])
    (folder / "index.csv").write_text("id\na123\nb123\n")
    (folder / "retrieval_solution_v2.1.csv").write_text("id,images,Usage\nc123,b123,Private\nd123,a123 b123,Public\n")


def cub200(folder):
    names = ["001.A/a.jpg", "101.B/b.jpg", "101.B/c.jpg", "102.C/d.jpg", "102.C/e.jpg"]
    photos(folder / "images", names)
    (folder / "images.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(names, 1)))
    (folder / "image_class_labels.txt").write_text("1 1\n2 101\n3 101\n4 102\n5 102\n")


def made(tmp_path, make):
    """Reads a judged set and writes it, as the script does; returns what its notes say and the benchmark."""
    make(tmp_path / "in")
    judged = JUDGED_SOURCES[make.__name__](tmp_path / "in", SourceOptions())
    write_record_set(judged.entries, tmp_path / "out", WriteOptions(make.__name__, judged=judged))
    return " ".join(judged.notes), Benchmark.load(tmp_path / "out")


def test_the_protocols_that_sources_name_are_there():
    assert set(LABEL_PROTOCOLS.values()) <= set(PROTOCOLS)
    assert set(LABEL_PROTOCOLS) | set(PUBLISHED_COUNTS) <= set(LABELLED_SOURCES)
    assert not set(JUDGED_SOURCES) & set(LABELLED_SOURCES)


def test_published_counts_are_compared():
    assert published_notes("folder", {"train": 3}) == ()
    assert published_notes("cub200", {"train": 5864, "queries": 5924, "database": 5924}) == ()
    (note,) = published_notes("gldv2", {"train": 10})
    assert "10 photos of train (4,132,914)" in note


@pytest.mark.parametrize(
    ("make", "queries", "database", "judgements"),
    [
        (
            holidays,
            ("100000.jpg", "100100.jpg"),
            ("100000.jpg", "100001.jpg", "100100.jpg", "100101.jpg"),
            (QueryJudgement((1,), junk=(0,)), QueryJudgement((3,), junk=(2,))),
        ),
        (
            copydays,
            ("strong/200101.jpg", "crops/50/200000.jpg"),
            ("original/200000.jpg", "original/200100.jpg"),
            (QueryJudgement((1,), group="strong"), QueryJudgement((0,), group="crops_50")),
        ),
        (
            gldv2_retrieval,
            ("c123", "d123"),
            ("a123", "b123"),
            (QueryJudgement((1,), group="private"), QueryJudgement((0, 1), group="public")),
        ),
    ],
)
def test_judged_sets_become_benchmarks(tmp_path, make, queries, database, judgements):
    told, benchmark = made(tmp_path, make)
    assert "differs from the published one" in told
    assert (benchmark.queries.ids, benchmark.database.ids) == (queries, database)
    assert tuple(benchmark.judgements) == judgements
    description = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert description["protocol"] in PROTOCOLS and description["relevance"] == "judged"


def test_a_photo_of_ukbench_is_right_for_itself(tmp_path):
    _, benchmark = made(tmp_path, ukbench)
    assert benchmark.queries.ids == benchmark.database.ids
    assert [judged.easy for judged in benchmark.judgements] == [(0, 1, 2, 3)] * 4 + [(4, 5, 6, 7)] * 4
    relevances = PROTOCOLS["ukbench"].relevances(benchmark.judgements, len(benchmark.database))
    np.testing.assert_array_equal(relevances["all"].counts(), [4] * 8)


def test_classes_to_search_are_queries_and_database(tmp_path):
    cub200(tmp_path / "in")
    command = [
        sys.executable, "-m", "pipelines.make_records", "--source=cub200", f"--input={tmp_path / 'in'}",
        f"--output={tmp_path / 'out'}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "note: cub200 as given differs from the published one" in done.stdout
    assert "1 photos of train (5,864), 4 photos of queries (5,924)" in done.stdout
    benchmark = Benchmark.load(tmp_path / "out")
    searched = ("101.B/b.jpg", "101.B/c.jpg", "102.C/d.jpg", "102.C/e.jpg")
    assert benchmark.queries.ids == benchmark.database.ids == searched
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text())["protocol"] == "classes_1248"
    relevant, junk = benchmark.relevance().masks(1)
    assert (np.flatnonzero(relevant).tolist(), np.flatnonzero(junk).tolist()) == ([0], [1])
