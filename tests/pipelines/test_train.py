import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tfretrieval.models.descriptor import load_descriptor

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--backbone=small_resnet", "--image_size=32", "--loss=supervised_contrastive", "--instances=3", "--photos=2",
    "--steps=150", "--epochs=2", "--checkpoint_steps=7", "--validation_share=0.34", "--erasing=0.3",
)  # fmt: skip


def start(records, output, *flags):
    command = [sys.executable, "-m", "pipelines.train", f"--records={records}", f"--output={output}", *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


@pytest.mark.slow
def test_a_run_killed_in_mid_epoch_resumes_to_the_same_bits(training_set, tmp_path):
    code, output = finish(start(training_set.directory, tmp_path / "whole", *FLAGS))
    assert code == 0, output
    killed = start(training_set.directory, tmp_path / "killed", *FLAGS)
    checkpoints = tmp_path / "killed" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("epoch-00000-step-0000014")) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "history.json").exists(), "it was to be killed within its first epoch"
    code, output = finish(
        start(training_set.directory, tmp_path / "killed", f"--flagfile={tmp_path}/killed/flags.txt", "--resume")
    )
    assert code == 0, output
    for which in ("best", "last"):
        first, second = (load_descriptor(tmp_path / run / f"{which}.keras") for run in ("whole", "killed"))
        for one, other in zip(first.weights, second.weights, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert (tmp_path / "whole" / "history.json").read_text() == (tmp_path / "killed" / "history.json").read_text()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--records=nowhere"], "--records=nowhere is not a directory"),
        (["--backbone=resnet9"], "--backbone=resnet9"),
        (["--weights=missing.weights.h5"], "--weights=missing.weights.h5 is not a file"),
        (["--loss=contrastive", "--negatives=50"], "--negatives=50"),
    ],
)
def test_bad_flags_end_in_one_sentence(training_set, tmp_path, flags, sentence):
    code, output = finish(start(training_set.directory, tmp_path / "run", *FLAGS, *flags))
    assert code != 0
    assert sentence in output
    assert "Traceback" not in output
