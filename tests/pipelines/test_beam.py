"""The scripts on Beam's own runners: the bytes of one process, also when workers are killed."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("apache_beam")

from export import describing
from tfretrieval import provenance
from tfretrieval.data.sources import SourceOptions, read_csv, read_folder
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.descriptors import Descriptors
from tfretrieval.search.knn import neighbours
from tfretrieval.search.neighbour_lists import NeighbourLists

REPOSITORY = Path(__file__).parents[2]
WORKERS = "--direct_num_workers=2 --direct_running_mode=multi_processing"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def children(pid):
    """Processes below a process, of any depth."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:  # it has ended
                continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


@pytest.fixture
def start(tmp_path):
    """Starts modules as programs, which tell what they do in a file; what still runs in the end is killed."""
    processes = []

    def run(module, *given):
        told = tmp_path / f"told{len(processes)}"
        with told.open("wb") as output:  # a pipe would fill while nobody reads it
            process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, given)],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"},
            )
        process.told = told
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            for pid in (*children(process.pid), process.pid):
                os.kill(pid, signal.SIGKILL)
            process.wait()


def finished(process):
    process.wait(timeout=500)
    told = process.told.read_text()
    assert process.returncode == 0, told
    return told


def tree(directory, without=("flags.txt", "dataset.json", "meta.json")):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name not in without}


def wait_for(what, seconds=400):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.1)
    return found


def opened_by_a_reader(pipe):
    """The pipe's other end, once somebody reads; they then wait for what is written there."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def has_reader(pipe):
    end = opened_by_a_reader(pipe)
    if end is not None:
        os.close(end)
    return end is not None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for worker processes in /proc")
def test_workers_killed_in_the_middle_of_a_shard_lose_nothing(start, photo_folder, tmp_path):
    """One photo is a pipe, at which a worker waits until it is killed; the next one gets the photo."""
    photos = sorted(path.relative_to(photo_folder).as_posix() for path in photo_folder.rglob("*.jpg"))
    lines = [f"{photo_folder / photo},{Path(photo).parent},train" for photo in photos]
    pipe, table = tmp_path / "pipe.jpg", tmp_path / "photos.csv"
    os.mkfifo(pipe)
    table.write_text("\n".join(["photo,instance,split", *lines, f"{pipe},abbey,train"]) + "\n", encoding="utf-8")
    beam = ("--runner=DirectRunner", f"--pipeline_options={WORKERS}")
    given = ("--source=csv", f"--input={table}", "--name=x", "--shards=4", f"--output={tmp_path / 'made'}")
    running = start("pipelines.make_records", *given, *beam)
    held = wait_for(lambda: running.poll() is not None or opened_by_a_reader(pipe))
    assert running.poll() is None, running.told.read_text()
    before = len([*(tmp_path / ".made.beam" / "done").glob("*.json")])
    killed = children(running.pid)
    assert before < 4 and len(killed) >= 2
    for worker in killed:
        os.kill(worker, signal.SIGKILL)
    os.close(held)
    wait_for(lambda: not has_reader(pipe))  # a killed process keeps its files for a moment
    with pipe.open("wb") as file:  # waits for the next worker
        file.write((photo_folder / photos[0]).read_bytes())
    assert re.search(r"Worker subprocess exited .*; going on with [1-4] of 4 shards", finished(running))
    pipe.unlink()
    pipe.write_bytes((photo_folder / photos[0]).read_bytes())
    write_record_set(read_csv(table, SourceOptions()), tmp_path / "alone", WriteOptions("x", shards=4))
    assert tree(tmp_path / "made") == tree(tmp_path / "alone")


def test_extraction_in_worker_processes(start, record_set, tiny_run, tmp_path):
    given = (f"--model={tiny_run.path}", f"--records={record_set.directory}", "--split=database", "--shards=3")
    beam = ("--runner=DirectRunner", f"--pipeline_options={WORKERS}")
    told = finished(start("pipelines.extract", *given, f"--output={tmp_path / 'db'}", *beam))
    assert "12 descriptors of" in told
    describer = describing.from_model(tiny_run.path)
    header = provenance.header({}, None, {"records": record_set.sha256})
    describer.extract_shards(record_set.split("database"), tmp_path / "alone", 3, lambda _: None, header)
    without = ("flags.txt", "meta.json", "speed.json")
    assert tree(tmp_path / "db", without) == tree(tmp_path / "alone", without)


def test_neighbours_in_worker_processes(start, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    Descriptors(vectors, tuple(map(str, range(300)))).save(tmp_path / "db")
    given = (f"--descriptors={tmp_path / 'db'}", "--k=4", f"--output={tmp_path / 'graph'}")
    finished(start("pipelines.knn_graph", *given, "--runner=DirectRunner", f"--pipeline_options={WORKERS}"))
    found, expected = NeighbourLists.load(tmp_path / "graph"), neighbours(vectors, 4)
    assert found.ids == tuple(map(str, range(300)))
    np.testing.assert_array_equal(found.ranking.order, expected.order)
    np.testing.assert_array_equal(found.ranking.similarity, expected.similarity)


def test_the_portable_job_api(start, photo_folder, tmp_path):
    port = tmp_path / "port"
    start("apache_beam.runners.portability.local_job_service_main", f"--port_file={port}")
    wait_for(lambda: port.exists() and port.read_text())
    worker = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main"
    options = (
        f"--job_endpoint=localhost:{port.read_text()} --environment_type=beam:env:harness_subprocess_python:v1 "
        f"--environment_config='{worker}'"
    )
    given = (f"--input={photo_folder}", "--shards=2", "--name=x", f"--output={tmp_path / 'made'}")
    beam = ("--runner=PortableRunner", f"--pipeline_options={options}")
    assert "PortableRunner: 2 shards" in finished(start("pipelines.make_records", *given, *beam))
    write_record_set(read_folder(photo_folder, SourceOptions()), tmp_path / "alone", WriteOptions("x", shards=2))
    assert tree(tmp_path / "made") == tree(tmp_path / "alone")
