import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def quickstart(output, *flags):
    command = [sys.executable, "-m", "pipelines.quickstart", f"--output={output}", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.slow
def test_quickstart_on_a_folder_of_photos_writes_page_and_numbers(photo_folder, tmp_path):
    flags = (f"--photos={photo_folder}", "--epochs=1", "--image_size=48", "--holdout_share=0.34")
    first = quickstart(tmp_path / "out", *flags)
    assert first.returncode == 0, first.stderr
    numbers = json.loads((tmp_path / "out" / "metrics.json").read_text())
    for network in ("untrained", "trained"):
        assert 0 <= numbers[network]["map"] <= 1
        assert 0 <= numbers[network]["recall_at_1"] <= 1
        assert (numbers[network]["queries"], numbers[network]["database"]) == (2, 8)
    assert numbers["served"]["min_cosine"] >= 0.9999
    assert set(numbers["seconds"]) == {"records", "train", "export", "serve", "evaluate", "total"}
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<title" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert first.stdout.rstrip().endswith("tensorflow/serving")
    assert "oneDNN" not in first.stderr
    again = quickstart(tmp_path / "out", *flags)
    assert again.returncode == 0, again.stderr
    repeated = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert repeated["trained"] == numbers["trained"]


def test_quickstart_leaves_other_directories_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    done = quickstart(tmp_path, "--photos=nowhere")
    assert done.returncode == 2
    assert "holds other files" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda folder: None, "is not a folder"),
        (lambda folder: folder.mkdir(), "holds no photo in a subfolder"),
    ],
    ids=["missing", "empty"],
)
def test_a_missing_or_empty_folder_ends_in_one_sentence(tmp_path, prepare, sentence):
    prepare(tmp_path / "photos")
    done = quickstart(tmp_path / "out", f"--photos={tmp_path / 'photos'}")
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert sentence in done.stderr
