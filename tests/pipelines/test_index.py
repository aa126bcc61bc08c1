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
from tfretrieval.search.index import SearchIndex

pytest.importorskip("faiss")

ROOT = Path(__file__).parents[2]
# Several commands of one script in one process, each with flags of its own: starting one takes seconds.
SEVERAL = """
import json, sys
from absl import flags
from absl.testing import flagsaver
from pipelines import {script}
from tfretrieval.errors import InputError
from tfretrieval.search import index_tuning
index_tuning._TIMED_SECONDS = 1e-9  # no speed is looked at
for words in json.load(sys.stdin):
    with flagsaver.flagsaver():
        try:
            flags.FLAGS(["program", *words])
            {script}.main()
        except InputError as error:
            print(f"error: {{error}}")
"""


def run_several(script, commands):
    """Returns what each command printed last."""
    printed = subprocess.run(
        [
            sys.executable,
            "-c",
            SEVERAL.format(script=script).replace(f"{script}.main()", f"{script}.main(); print('done')"),
        ],
        input=json.dumps([[f"--{name}={value}" for name, value in command.items()] for command in commands]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"},
        timeout=200,
        check=False,
    )
    assert printed.returncode == 0, printed.stderr
    return [
        line for line in printed.stdout.splitlines() if line.startswith("error: ") or line == "done"
    ], printed.stdout


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A benchmark of 12 queries and 48 photos of 12 instances, its descriptors, and three further photos."""
    directory, rng = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)
    entries = []
    for number in range(60):
        path = directory / f"{number}.png"
        Image.new("RGB", (8, 8), (4 * number, 90, 200)).save(path)
        split = "queries" if number < 12 else "database"
        entries.append(PhotoEntry(f"p{number:02}", path, f"i{number % 12}", split))
    records = write_record_set(entries, directory / "records", WriteOptions("tiny"))[0]
    centres = rng.standard_normal((12, 8))
    for split in ("queries", "database"):
        photos = records.split(split)
        vectors = centres[photos.labels] + 0.8 * rng.standard_normal((len(photos), 8))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        meta = {"model_sha256": "m", "image_size": 8, "data": {"records": records.sha256}}
        Descriptors(vectors, photos.ids, meta).save(directory / split)
    more = np.eye(8, dtype=np.float32)[:3]
    Descriptors(more, ("a", "b", "c"), {"model_sha256": "m"}).save(directory / "more")
    (directory / "gone.txt").write_text("a\np20\n")
    return directory


@pytest.fixture(scope="module")
def made(inputs):
    """What building, changing and comparing wrote and said."""
    database, output = inputs / "database", inputs / "index"
    building = {"database": database, "output": output, "factory": "IVF4,PQ4x2,RFlat", "recall_target": 0.9, "k": 5}
    changed = inputs / "changed"
    comparing = {
        "database": database,
        "output": inputs / "compared",
        "compare": "Flat | SQ8 | IVF4,PQ4x2",
        "k": 5,
        "benchmark": inputs / "records",
        "queries": inputs / "queries",
    }
    commands = [
        building,
        {"index": output, "add": inputs / "more", "output": changed},
        {"index": changed, "delete": inputs / "gone.txt"},
        comparing,
        {},
        {"add": inputs / "more"},
        {"database": database},
        {"database": database, "output": inputs / "x", "index": output},
        {"database": database, "output": inputs / "x", "benchmark": inputs / "records"},
        {"index": changed, "delete": inputs / "nothing.txt"},
        {"index": changed, "delete": inputs / "gone.txt"},
        {"index": changed, "add": inputs / "more"},
        {**building, "factory": "IVF99,Flat"},
        {**building, "output": database},
    ]
    return run_several("index", commands)


def test_an_index_is_built_and_its_parameters_are_chosen(inputs, made):
    said, printed = made
    assert said[:4] == ["done"] * 4
    index = SearchIndex.load(inputs / "index")
    assert len(index) == 48 and index.meta["tuning"]["target"] == 0.9 and index.parameters == index.meta["parameters"]
    assert index.meta["flags"]["factory"] == "IVF4,PQ4x2,RFlat" and index.meta["seed"] == 0
    assert f"recall@5 {index.meta['tuning']['recall']:.3f} at" in printed
    assert "note: fitted to 48 descriptors" in printed
    assert "--factory=IVF4,PQ4x2,RFlat" in (inputs / "index" / "flags.txt").read_text()


def test_photos_are_added_to_another_directory_and_deleted_in_place(inputs, made):
    index = SearchIndex.load(inputs / "changed")
    database = Descriptors.load(inputs / "database")
    kept = [photo for photo in database.ids if photo != "p20"] + ["b", "c"]
    assert list(index.ids) == kept and index.deleted == 2
    index.use({"nprobe": 4, "k_factor_rf": 64})
    everything = np.concatenate([database.vectors, np.eye(8, dtype=np.float32)[:3]])
    everything = everything[[row for row, photo in enumerate([*database.ids, "a", "b", "c"]) if photo in kept]]
    queries = np.array(Descriptors.load(inputs / "queries").vectors)
    np.testing.assert_array_equal(
        index.search(queries, 10).order, np.argsort(-(queries @ everything.T), axis=1, kind="stable")[:, :10]
    )
    assert "hold 3.9% deleted ones" in made[1]
    assert not [path for path in inputs.iterdir() if "partial" in path.name]


def test_a_comparison_has_figures_and_charts(inputs, made):
    result = json.loads((inputs / "compared" / "comparison.json").read_text())
    assert [row["factory"] for row in result["indexes"]] == ["Flat", "SQ8", "IVF4,PQ4x2"]
    assert result["indexes"][0]["map"] == result["map_exact"] and result["indexes"][0]["recall"] == 1
    assert result["flags"]["k"] == 5 and result["data"].keys() == {"descriptors", "queries"}
    for name in ("recall.svg", "bytes.svg"):
        assert "IVF4,PQ4x2" in (inputs / "compared" / name).read_text()
    assert sorted(path.name for path in (inputs / "compared").iterdir()) == [
        "bytes.svg",
        "comparison.json",
        "flags.txt",
        "recall.svg",
    ]


def test_wrong_flags_are_one_sentence_and_leave_all_as_it_was(inputs, made):
    said = made[0][4:]
    for line, words in zip(
        said,
        (
            "none of --database, --add and --delete is given; one",
            "--add is given without --index",
            "--database is given without --output",
            "--index is given with --database",
            "--benchmark is given without --compare and --queries",
            "nothing.txt cannot be read",
            "lacks 2 of the 2 photos of --delete, first 'a'",
            "has 2 of the photos of --add already, first 'b'",
            "fitted to at least 99 descriptors, one for each centre, and there are 48",
            "holds other files and no index.json",
        ),
        strict=True,
    ):
        assert line.startswith("error: ") and words in line, line
    assert not (inputs / "x").exists()


@pytest.mark.slow
def test_an_evaluation_searches_through_an_index(inputs, made):
    given = {name: inputs / name for name in ("queries", "database")} | {"benchmark": inputs / "records"}
    said, _ = run_several(
        "evaluate",
        [
            {**given, "output": inputs / "exact"},
            {**given, "output": inputs / "found", "index": inputs / "index", "index_depth": 9},
            {**given, "output": inputs / "x", "index": inputs / "changed"},
            {**given, "output": inputs / "x", "index": inputs / "index", "rerank": "qe"},
            {**given, "output": inputs / "x", "index": inputs / "queries"},
        ],
    )
    assert said[:2] == ["done"] * 2
    exact, found = (json.loads((inputs / name / "metrics.json").read_text()) for name in ("exact", "found"))
    index = SearchIndex.load(inputs / "index")
    ranking = index.search(np.array(Descriptors.load(inputs / "queries").vectors), 9)
    labels = [int(photo[1:]) % 12 for photo in index.ids]
    aps = []
    for query, (order, similarity) in enumerate(zip(ranking.order, ranking.similarity, strict=True)):
        right = [labels[row] == query and score > -np.inf for row, score in zip(order, similarity, strict=True)]
        aps.append(sum(sum(right[: place + 1]) / (place + 1) for place in range(9) if right[place]) / 4)
    assert found["map"] == pytest.approx(np.mean(aps)) and found["map"] < exact["map"]
    assert "IVF4,PQ4x2,RFlat" in found["protocol"]["metric"] and "exact" in exact["protocol"]["metric"]
    for line, words in zip(
        said[2:],
        ("the index has 49 photos, and lacks 1", "one of them is wanted", "index.json is missing"),
        strict=True,
    ):
        assert line.startswith("error: ") and words in line, line


def test_the_script_starts_and_ends_as_others_do(tmp_path):
    command = [sys.executable, "-m", "pipelines.index", f"--database={tmp_path}", f"--output={tmp_path / 'x'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 2 and done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "meta.json is missing" in done.stderr and "Traceback" not in done.stderr
