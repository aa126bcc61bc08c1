import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tfretrieval.descriptors import Descriptors

ROOT = Path(__file__).parents[2]


@pytest.fixture
def flags(tiny_run, training_set):
    return (f"--model={tiny_run.path}", f"--records={training_set.directory}", "--batch=2", "--shards=6")


def extract(*flags):
    return subprocess.run(
        [sys.executable, "-m", "pipelines.extract", *flags], cwd=ROOT, capture_output=True, text=True, check=False
    )


def content(directory):
    """All bytes but those that tell how fast it was, and the flags, which name the directory."""
    names = (path for path in directory.rglob("*") if path.is_file() and path.name not in ("speed.json", "flags.txt"))
    return {path.name: path.read_bytes().replace(str(directory).encode(), b"OUTPUT") for path in names}


@pytest.mark.slow
def test_killed_at_random_instants_and_started_again_it_gives_the_same_bytes(flags, training_set, tmp_path):
    done = extract(*flags, f"--output={tmp_path}/whole")
    assert done.returncode == 0, done.stderr
    assert "30 descriptors of 256 dimensions (30 now, " in done.stdout and "network" in done.stdout
    rng, kills = np.random.default_rng(0), 0
    slowly = [sys.executable, "-c", SLOWLY, *flags, f"--output={tmp_path}/cut"]
    while True:
        committed = set((tmp_path / "cut").glob("shards/*.json"))
        child = subprocess.Popen(slowly, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        if kills == 3:
            assert child.wait() == 0
            break
        while child.poll() is None and set((tmp_path / "cut").glob("shards/*.json")) == committed:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.4))
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        kills += 1
        assert not (tmp_path / "cut" / "meta.json").exists()
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    found = Descriptors.load(tmp_path / "cut")
    assert found.ids == training_set.split().ids
    again = extract(*flags, f"--output={tmp_path}/cut")
    assert again.returncode == 0 and "all were there already" in again.stdout
    refused = extract(*flags, f"--output={tmp_path}/cut", "--precision=bfloat16")
    assert refused.returncode == 2
    assert "was begun otherwise (precision was float32 and is bfloat16)" in refused.stderr
    assert "Traceback" not in refused.stderr


# Each batch takes a third of a second longer: a shard of three outlasts the wait before a kill.
SLOWLY = """
import sys, time
from pipelines import extract, script
from tfretrieval import console
console.quiet_tensorflow()
from tfretrieval import extraction
timed = extraction._timed
extraction._timed = lambda *given: (time.sleep(0.33), timed(*given))[1]
script.run_main(extract.main)
"""


@pytest.mark.slow
def test_flags_that_do_not_go_together_are_refused(flags, tmp_path):
    run, records, *_ = flags
    for given, sentence in (
        ((run, "--shards=3", f"--to_records={tmp_path}/r"), "--shards=3 is of --output without --objects"),
        (
            ("--server=localhost:1", f"--output={tmp_path}/d", "--devices=2"),
            "are of --model=RUN, and --server is given",
        ),
        ((run, f"--output={tmp_path}/d", "--precision=int8"), "--precision"),
    ):
        done = extract(records, *given)
        assert done.returncode != 0 and sentence in done.stderr, done.stderr
        assert not list(tmp_path.iterdir())
