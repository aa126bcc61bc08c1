"""The script that serves the page to search by photo: where it finds the photos, and how it starts and stops."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from export.search_page import PhotoIndex
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError

ROOT = Path(__file__).parents[2]


def index_of(ids, **meta):
    vectors = np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float32)
    return Descriptors(vectors, tuple(ids), meta)


@pytest.fixture
def photos(load_script):
    """What the script shows of an index's photos, by flags."""
    search_app, values = load_script("pipelines.search_app"), flags.FLAGS
    saved = {name: values[name].value for name in ("records", "split", "photos", "server", "index")}

    def shown(index, *arguments):
        try:
            values(["search_app", "--server=localhost:1", "--index=given", *arguments])
            return search_app.indexed_photos(PhotoIndex(index, "given"))
        finally:
            for name, value in saved.items():
                values[name].value = value

    return shown


def test_photos_come_from_the_records_that_were_described(photos, record_set):
    ids = record_set.split("database").ids
    found = photos(index_of(ids, flags={"records": str(record_set.directory)}, split="database"))
    assert found.read(3) and found.label(3) == ids[3].rsplit("/", 1)[0]
    elsewhere = index_of(ids, flags={"records": "gone"}, split="queries")
    assert photos(elsewhere, f"--records={record_set.directory}", "--split=database").read(3) == found.read(3)


def test_photos_come_from_a_folder(photos, photo_folder):
    index = index_of(["abbey/photo_0.jpg"], flags={"records": "gone"})
    assert photos(index, f"--photos={photo_folder}").read(0) == (photo_folder / "abbey/photo_0.jpg").read_bytes()


def test_photos_from_nowhere_or_from_two_places_are_refused(photos, photo_folder):
    with pytest.raises(InputError, match="--index=given does not tell its records; --records=DIR or --photos=DIR is"):
        photos(index_of(["a"]))
    with pytest.raises(InputError, match="--photos does not go with --records and --split"):
        photos(index_of(["a"]), f"--photos={photo_folder}", "--records=x")
    with pytest.raises(InputError, match="--records=gone is not a directory"):
        photos(index_of(["a"], flags={"records": "gone"}))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_the_page_until_it_is_told_to_stop(photo_folder, tmp_path, number):
    index_of(["abbey/photo_0.jpg", "dome/photo_1.png"]).save(tmp_path / "index")
    command = [sys.executable, "-m", "pipelines.search_app", "--server=127.0.0.1:9", f"--index={tmp_path}/index"]
    command += [f"--photos={photo_folder}", "--port=0", "--timeout=0.5"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            told = next(line for line in process.stdout if "open http" in line)
            url = re.search(r"open (http://127\.0\.0\.1:\d+/) ", told)[1]
            with urllib.request.urlopen(f"{url}api/search?photo=0", timeout=20) as answer:
                assert [result["id"] for result in json.load(answer)["results"]] == ["dome/photo_1.png"]
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{url}api/server", timeout=20)
            assert caught.value.code in (503, 504)
            process.send_signal(number)
            assert process.wait(20) == 0
        finally:
            process.kill()


@pytest.mark.slow
def test_the_command_tells_what_is_wrong_in_a_sentence(tmp_path):
    command = [sys.executable, "-m", "pipelines.search_app", "--server=127.0.0.1:9", f"--index={tmp_path}/none"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: {tmp_path}/none is not a directory")
