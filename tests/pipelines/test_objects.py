import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from tfretrieval.data.objects import Annotation, Object, PhotoObjects
from tfretrieval.data.sources import PhotoEntry
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.descriptors import Descriptors
from tfretrieval.models.detector import DetectorConfig, build_detector
from tfretrieval.models.guided import BranchConfig, GuidedObjectEmbedder
from tfretrieval.object_descriptors import ObjectBoxes, ObjectDescriptors

ROOT = Path(__file__).parents[2]
CLASSES = ("ace", "king")
# Each database photo's objects; queries are crops of an ace and of a king.
DATABASE = (("ace", "king"), ("king",), ("ace",), (), ("king", "king"))
LEFT, RIGHT = (2, 3, 30, 40), (34, 4, 62, 44)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("objects"), np.random.default_rng(0)
    entries = []
    for number, names in enumerate([("ace", "king"), *DATABASE]):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(path)
        placed = tuple(Object(k, name, box) for k, (name, box) in enumerate(zip(names, (LEFT, RIGHT), strict=False)))
        wanted = PhotoObjects(Annotation(path, placed), cropped=number == 0, keep_empty=True)
        split = "queries" if number == 0 else "database"
        entries.append(PhotoEntry(f"p{number}", path, names[0] if names else "none", split, objects=wanted))
    return write_record_set(entries, folder / "records", WriteOptions("cards", classes=CLASSES))[0]


def run(script, *given):
    quiet = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", f"pipelines.{script}", *given]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=quiet, timeout=200, check=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run directory as pipelines.train_objects leaves it, of a network with random weights."""
    keras.utils.set_random_seed(0)
    detector = build_detector(DetectorConfig("mobilenet_v2_0.35", min_level=4, max_level=6, head_layers=1), 2)
    folder = tmp_path_factory.mktemp("run")
    GuidedObjectEmbedder(detector, BranchConfig(dimension=16, branch_width=16)).save(folder / "best.keras")
    description = {"classes": list(CLASSES), "training": {"image_size": 0, "size": 64}}
    (folder / "run.json").write_text(json.dumps(description))
    return folder


@pytest.mark.slow
def test_objects_are_extracted_and_searched(records, model, tmp_path):
    given = (f"--records={records.directory}", f"--model={model}", "--objects", "--least_score=0", "--most_objects=3")
    done = run("extract", *given, "--split=database", f"--output={tmp_path}/db")
    assert done.returncode == 0, done.stderr
    found = ObjectDescriptors.load(tmp_path / "db")
    assert f"wrote {tmp_path}/db: {len(found.vectors)} objects of 5 photos (0 without any), 16 dim" in done.stdout
    assert found.photos == records.splits["database"].ids and found.objects.class_names == CLASSES
    assert set(found.objects.counts()) <= {1, 2, 3} and found.meta["data"]["records"] == records.sha256
    assert "--most_objects=3" in (tmp_path / "db/flags.txt").read_text()
    done = run("extract", *given[:3], "--boxes=annotated", "--split=queries", f"--output={tmp_path}/q")
    assert done.returncode == 0, done.stderr
    assert Descriptors.load(tmp_path / "q" / "photos").ids == ("p0#0", "p0#1")
    given = (f"--benchmark={records.directory}", f"--queries={tmp_path}/q/photos", f"--database={tmp_path}/db")
    done = run("evaluate", *given, "--objects=fused", f"--output={tmp_path}/report")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report/index.html").read_text().count('<svg class="boxes"') == 10


@pytest.fixture(scope="module")
def described(records, tmp_path_factory):
    """Descriptors that tell classes: aces are (1, 0, 0), kings (0, 1, 0), whole photos and the rest (0, 0, 1)."""
    folder, eye = tmp_path_factory.mktemp("described"), np.eye(3, dtype=np.float32)
    meta = {"model_sha256": "m", "image_size": 64, "data": {"records": records.sha256}}
    split = records.splits["database"]
    boxes = ObjectBoxes.annotated(split.objects, CLASSES)
    whole = np.tile(eye[2], (len(split), 1))
    ObjectDescriptors(split.ids, boxes, eye[boxes.classes], whole, meta).save(folder / "db")
    ObjectDescriptors(split.ids, boxes, eye[boxes.classes], None, meta).save(folder / "bare")
    queries = records.splits["queries"]
    Descriptors(eye[queries.labels], queries.ids, meta).save(folder / "regions")
    own = ObjectBoxes.annotated(queries.objects, CLASSES)
    ObjectDescriptors(queries.ids, own, eye[own.classes], eye[[2, 2]], meta).save(folder / "sets")
    return folder


def evaluate(records, described, output, *given, queries="regions", database="db"):
    paths = (f"--queries={described}/{queries}", f"--database={described}/{database}", f"--output={output}")
    return run("evaluate", f"--benchmark={records.directory}", *paths, *given)


@pytest.mark.parametrize(
    ("queries", "given"), [("regions", ("--objects=max",)), ("sets", ("--objects=fused", "--objects_weight=0.75"))]
)
def test_photos_are_found_by_their_objects_and_the_page_shows_which(records, described, tmp_path, queries, given):
    done = evaluate(records, described, tmp_path / "report", *given, queries=queries)
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "report/metrics.json").read_text())
    # Two photos show an ace and three a king; all of them stand before the others.
    assert (made["map"], made["recall_at_1"], made["database"]) == (1.0, 1.0, 5)
    assert made["protocol"]["relevance"] == "content" and made["protocol"]["junk"] == "left out of the ranking"
    assert made["protocol"]["metric"].startswith(given[0].split("=")[1])
    assert len(made["data"]["database_boxes"]) == 64
    assert (made["data"]["queries_boxes"] is None) == (queries == "regions")
    assert "1 of 5 database photos have no object and are compared as a whole." in made["notes"]
    text = (tmp_path / "report/index.html").read_text()
    # The photo shows an ace and a king: it is labelled by what is searched for, and the object that matched is named.
    for place, name in enumerate(("ace", "king"), start=1):
        wanted = f"Result 1, right: {name} + 1 more; object {place} of 2 ({name}) matched, similarity 1.000"
        assert f'alt="{wanted}"' in text


def test_photos_without_objects_that_are_not_described_as_wholes_come_last(records, described, tmp_path):
    done = evaluate(records, described, tmp_path / "report", "--objects=mean_best", database="bare")
    assert done.returncode == 0, done.stderr
    assert "1 of 5 database photos have no object and come last." in done.stdout
    assert "Result 5, wrong: (no object); no object" in (tmp_path / "report/index.html").read_text()


def test_wrong_input_is_one_sentence(records, described, model, tmp_path):
    done = evaluate(records, described, tmp_path / "a", "--objects=fused", database="bare")
    wanted = "error: --objects=fused, and the whole photos of the database are not described.\n"
    assert (done.returncode, done.stderr) == (2, wanted)
    given = (f"--records={records.directory}", f"--model={model}", "--split=database", f"--output={tmp_path}/b")
    done = run("extract", *given, "--crops")
    assert (done.returncode, done.stderr) == (2, "error: --crops=True is of --objects, which is not given.\n")
    assert list(tmp_path.iterdir()) == []
