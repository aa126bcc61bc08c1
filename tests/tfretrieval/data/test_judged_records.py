"""Record sets of photos with a benchmark's judgements."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfretrieval.data import records
from tfretrieval.data.judgements import UNLABELLED, JudgedPhotos, QueryJudgement
from tfretrieval.data.record_set import RecordSet
from tfretrieval.data.sources import PhotoEntry
from tfretrieval.data.teacher_records import TeacherCard, write_with_descriptors
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.errors import InputError

JUDGEMENTS = (
    QueryJudgement((3, 0, 3), (1,), (2,), (1.5, 2.0, 30.25, 20.0)),
    QueryJudgement((), group="weak"),
    QueryJudgement((1,), (), (1,), (-4.0, 2.0, 70.1, 20.0), "strong"),
)
NAMES = {"queries": ("z", "b", "m"), "database": ("m", "c", "a", "z"), "train": ("t", "s")}


@pytest.fixture
def judged(tmp_path):
    """Photos of 32 x 24 pixels whose order is not that of their names; two of them are query and database photo."""
    (tmp_path / "photos").mkdir()
    entries = []
    for split, names in NAMES.items():
        for name in names:
            path = tmp_path / "photos" / f"{name}.jpg"
            Image.new("RGB", (32, 24), (ord(name), 90, 40)).save(path)
            entries.append(PhotoEntry(name, path, UNLABELLED, split))
    return JudgedPhotos(tuple(entries), JUDGEMENTS, "revisited", "ab" * 32, ("Told by the source.",), 1)


def write(judged, tmp_path, **options):
    return write_record_set(judged.entries, tmp_path / "set", WriteOptions("toys", judged=judged, **options))


def test_photos_keep_their_order_and_queries_their_judgements(judged, tmp_path):
    made, rejected = write(judged, tmp_path, shards=2)
    made.verify()
    assert rejected == [] and made.labels == (UNLABELLED,)
    assert {name: split.ids for name, split in made.splits.items()} == NAMES
    assert made.splits["queries"].judgements == JUDGEMENTS
    assert made.splits["database"].judgements is None and made.splits["train"].judgements is None
    for row, judgement in enumerate(JUDGEMENTS):
        found = records.decode_record(made.splits["queries"].read(row)).judgement
        assert (found.easy, found.hard, found.junk, found.group) == (
            judgement.easy,
            judgement.hard,
            judgement.junk,
            judgement.group,
        )
        assert found.box == (None if judgement.box is None else tuple(np.float32(judgement.box).tolist()))
    assert all(records.decode_record(made.splits["database"].read(row)).judgement is None for row in range(4))


def test_the_benchmark_tells_protocol_counts_and_hashes(judged, tmp_path):
    made, _ = write(judged, tmp_path)
    assert json.loads((made.directory / "benchmark.json").read_text(encoding="utf-8")) == {
        "name": "toys",
        "relevance": "judged",
        "protocol": "revisited",
        "ground_truth_sha256": "ab" * 32,
        "distractors": 1,
        "notes": ["Told by the source.", "1 queries have boxes that reach beyond their photos, first 'm'."],
        "queries": 3,
        "database": 4,
        "sha256": made.sha256,
    }


def test_equal_photos_and_judgements_give_equal_bytes(judged, tmp_path):
    trees = []
    for name in ("a", "b"):
        made, _ = write(judged, tmp_path / name)
        trees.append({path.name: path.read_bytes() for path in made.directory.iterdir()})
    assert trees[0] == trees[1]


@pytest.mark.parametrize(("split", "name"), [("queries", "b"), ("database", "a")])
def test_a_photo_that_rows_count_on_is_never_left_out(judged, tmp_path, split, name):
    (tmp_path / "photos" / f"{name}.jpg").write_bytes(b"broken")
    with pytest.raises(InputError, match=rf"{name}\.jpg of the split '{split}' cannot be used: not an image") as error:
        write(judged, tmp_path, max_rejected=1.0)
    assert str(error.value).endswith("every one is wanted.")
    assert not (tmp_path / "set").exists()


def test_a_photo_to_train_may_be_left_out(judged, tmp_path):
    (tmp_path / "photos" / "t.jpg").write_bytes(b"broken")
    made, (rejected,) = write(judged, tmp_path, max_rejected=0.5)
    assert rejected.photo_id == "t" and made.splits["train"].ids == ("s",)
    assert made.splits["queries"].judgements == JUDGEMENTS


def test_a_box_without_a_pixel_is_refused(judged, tmp_path):
    judgements = (QueryJudgement((), box=(3.1, 0, 3.2, 9)), *JUDGEMENTS[1:])
    changed = JudgedPhotos(judged.entries, judgements, "revisited", "00")
    with pytest.raises(
        InputError, match=r"z\.jpg of the split 'queries' cannot be used: the box .* holds no whole pixel"
    ):
        write(changed, tmp_path)


def test_boxes_are_turned_with_photos_that_are_stored_turned(judged, tmp_path):
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[4:12, 16:28] = (250, 20, 20)  # what the box shows in the photo as stored
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    Image.fromarray(pixels).save(tmp_path / "photos" / "z.jpg", exif=exif, quality=95, subsampling=0)
    judgements = (QueryJudgement((), box=(16, 4, 28, 12)), *JUDGEMENTS[1:])
    made, _ = write(JudgedPhotos(judged.entries, judgements, "revisited", "00"), tmp_path)
    split = made.splits["queries"]
    photo = tf.io.decode_jpeg(records.decode_record(split.read(0)).photo.encoded).numpy()
    assert photo.shape == (32, 24, 3)
    x1, y1, x2, y2 = map(int, split.judgements[0].box)
    assert (x2 - x1, y2 - y1) == (8, 12)
    assert photo[y1:y2, x1:x2, 0].min() > 150 and np.delete(photo[..., 0], range(y1, y2), axis=0).max() < 100


def test_a_copy_with_descriptors_keeps_the_judgements(judged, tmp_path):
    made, _ = write(judged, tmp_path)
    card = TeacherCard(2, "m", None, None, ["queries"])
    copied = write_with_descriptors(made, {"queries": np.zeros((3, 2), np.float32)}, card, tmp_path / "copy")
    copied.verify()
    assert copied.splits["queries"].judgements == JUDGEMENTS
    assert records.decode_record(copied.splits["queries"].read(1)).judgement == JUDGEMENTS[1]
    assert json.loads((copied.directory / "benchmark.json").read_text())["sha256"] == copied.sha256


def test_a_changed_index_is_found(judged, tmp_path):
    made, _ = write(judged, tmp_path)
    path = made.directory / "judgements.npz"
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"judgements\.npz (has changed|cannot be read)"):
        RecordSet.load(made.directory).verify()
    path.write_bytes(data[:-1])
    with pytest.raises(InputError, match=r"judgements\.npz is truncated or changed"):
        RecordSet.load(made.directory)
    path.unlink()
    with pytest.raises(InputError, match=r"judgements\.npz is missing"):
        RecordSet.load(made.directory)
