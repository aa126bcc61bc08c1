"""A benchmark in its genuine layout: from its photos and ground truth to the descriptors of its queries' crops."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from export import describing, saving
from export.client import DescriptorClient
from export.server import LocalServer
from tfretrieval import console
from tfretrieval.data.record_set import RecordSet
from tfretrieval.descriptors import Descriptors
from tfretrieval.evaluation.benchmark import Benchmark

ROOT = Path(__file__).parents[2]
TRUTH = {
    "imlist": ["gate_000009", "hall_000001", "gate_000002", "other_000004"],
    "qimlist": ["hall_000007", "gate_000001"],
    "gnd": [
        {"bbx": [8.5, 11.5, 48.5, 51.5], "easy": [1], "hard": [3, 0], "junk": []},
        {"bbx": [0, 0, 96, 96], "easy": [], "hard": [2], "junk": [0]},
    ],
}


def run(script, *given):
    quiet = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", f"pipelines.{script}", *map(str, given)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=quiet, timeout=200, check=False)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Photos of 96 x 96 soft pixels, stored without loss whatever their names say, and two distractors."""
    folder, rng = tmp_path_factory.mktemp("genuine"), np.random.default_rng(0)
    names = [f"jpg/{name}.jpg" for name in TRUTH["imlist"] + TRUTH["qimlist"]]
    for name in [*names, "more/jpg/0/b.jpg", "more/jpg/0/a.jpg"]:
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((96, 96), Image.Resampling.BICUBIC).save(folder / name, "PNG")
    (folder / "more" / "revisitop1m.txt").write_text("0/b.jpg\n0/a.jpg\n")
    (folder / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(TRUTH, 3))
    return folder


@pytest.fixture(scope="module")
def made(given, tmp_path_factory):
    output = tmp_path_factory.mktemp("made") / "records"
    done = run(
        "make_records", "--source=roxford5k", f"--input={given}", f"--output={output}", f"--distractors={given}/more"
    )
    return output, done


def test_records_and_benchmark_are_made_and_told(made):
    output, done = made
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.splitlines()
    assert told[:2] == ["  queries: 2 photos in 1 shards", "  database: 6 photos in 1 shards"]
    assert (
        "  note: There are 4 database photos and 4993 in the published ROxford5k: its figures are not comparable."
        in told
    )
    assert "  note: 2 distractors follow the database of 4 photos." in told
    benchmark = Benchmark.load(output)
    assert (benchmark.name, benchmark.protocol) == ("roxford5k", "revisited")
    assert benchmark.queries.ids == tuple(TRUTH["qimlist"])
    assert benchmark.database.ids == (*TRUTH["imlist"], "0/b.jpg", "0/a.jpg")
    for judgement, query in zip(benchmark.judgements, TRUTH["gnd"], strict=True):
        assert [list(judgement.easy), list(judgement.hard), list(judgement.junk), list(judgement.box)] == [
            query["easy"],
            query["hard"],
            query["junk"],
            query["bbx"],
        ]


def test_distractors_are_for_benchmarks_with_a_ground_truth(given, tmp_path):
    done = run("make_records", f"--input={given}", f"--output={tmp_path}/o", f"--distractors={given}/more")
    assert done.returncode == 2 and "--distractors=" in done.stderr and "--source=folder" in done.stderr


def crops(folder, how):
    """The crops that Pillow cuts, in the size of the definition, which is an exact half here or none."""
    made = []
    for name, query in zip(TRUTH["qimlist"], TRUTH["gnd"], strict=True):
        photo = Image.open(folder / "jpg" / f"{name}.jpg")
        crop = np.asarray(photo if how == "none" else photo.crop(query["bbx"]), np.float64)
        # 48 px for a photo of 96: a crop of 40 has 20, unless it is taken for a photo of its own.
        halved = how == "scaled" or len(crop) > 48
        made.append(np.rint(crop.reshape(len(crop) // 2, 2, -1, 2, 3).mean(axis=(1, 3))) if halved else crop)
    return made


def check(found, folder, how, network):
    """Compares descriptors with those of the crops that Pillow cuts."""
    assert found.ids == tuple(TRUTH["qimlist"]) and found.meta["query_crop"] == how
    sides = {"scaled": (20, 48), "unscaled": (40, 48), "none": (48, 48)}[how]
    for vector, crop, side in zip(found.vectors, crops(folder, how), sides, strict=True):
        assert crop.shape == (side, side, 3)
        np.testing.assert_allclose(vector, network(tf.constant(crop[None], tf.float32))[0], atol=1e-4)


def test_queries_are_described_by_their_crops(given, made, tiny_run, tmp_path):
    common = (f"--model={tiny_run.path}", f"--records={made[0]}", f"--output={tmp_path}/q", "--split=queries")
    done = run("extract", *common)
    assert (done.returncode, done.stderr) == (0, "")
    check(Descriptors.load(tmp_path / "q"), given, "scaled", tiny_run.load_model())
    assert (tmp_path / "q" / "ids.txt").read_text() == "hall_000007\ngate_000001\n"
    assert "--query_crop=scaled" in (tmp_path / "q" / "flags.txt").read_text()


def test_server_savedmodel_and_network_describe_the_same_crops(given, made, tiny_run, tmp_path):
    saving.write_version(saving.load_source(tiny_run.path), tmp_path / "descriptor", {})
    records, bar = RecordSet.load(made[0]), lambda total: console.progress(None, "describing", total)
    queries, database = records.split("queries"), records.split("database")
    plain = tiny_run.load_model()
    with (
        LocalServer("descriptor", tmp_path / "descriptor") as server,
        DescriptorClient(server.grpc_address) as client,
    ):
        for how in ("scaled", "unscaled", "none"):
            network = describing.from_model(tiny_run.path, query_crop=how)
            model = describing.from_model(tmp_path / "descriptor", query_crop=how)
            served = describing.from_server(client, how)
            for describer in (network, model, served):
                check(describer.extract(queries, bar, {}), given, how, plain)
    assert "query_crop" not in network.extract(database, bar, {}).meta


def test_a_missing_photo_ends_in_one_sentence(given, tmp_path):
    for name in TRUTH["imlist"] + TRUTH["qimlist"][:1]:
        (tmp_path / "jpg").mkdir(exist_ok=True)
        (tmp_path / "jpg" / f"{name}.jpg").write_bytes((given / "jpg" / f"{name}.jpg").read_bytes())
    (tmp_path / "gnd_roxford5k.pkl").write_bytes((given / "gnd_roxford5k.pkl").read_bytes())
    done = run("make_records", "--source=roxford5k", f"--input={tmp_path}", f"--output={tmp_path}/o")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "names 6 photos and 1 are not there, first" in done.stderr and "gate_000001.jpg" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gnd_roxford5k.pkl", "jpg"]
