import subprocess
import sys
from pathlib import Path

import pytest

from tfretrieval.backbones.table import rows_of

ROOT = Path(__file__).parents[2]


def script(*flags):
    command = [sys.executable, "-m", "pipelines.backbones", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_rows_are_printed_or_written(tmp_path):
    printed = script("--backbone=small_resnet,vgg16")
    assert printed.returncode == 0, printed.stderr
    assert list(rows_of(printed.stdout)) == ["small_resnet", "vgg16"]
    written = script("--backbone=small_resnet,vgg16", f"--output={tmp_path}/table.md")
    assert written.returncode == 0 and "2 backbones" in written.stdout
    assert (tmp_path / "table.md").read_text() == printed.stdout


@pytest.mark.slow
def test_an_unknown_name_is_one_sentence():
    done = script("--backbone=vgg11")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: --backbone=vgg11 is unknown; one like vgg")
    assert "Traceback" not in done.stderr
