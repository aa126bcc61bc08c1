import csv
import hashlib
import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfretrieval.data import record_shards, records
from tfretrieval.data.record_set import RecordSet
from tfretrieval.data.sources import PhotoEntry
from tfretrieval.data.write_records import Rejected, WriteOptions, write_record_set
from tfretrieval.errors import InputError

INSTANCES = ("zoo", "Abbey", "zoo", "bridge", "Abbey", "zoo", "Köln, \u2028Dom")


def png(number, size=(8, 6)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (number, 2 * number, 100)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def entries(tmp_path):
    """Seven photos to train, three queries and four of a database, each a small PNG of its own colour."""
    folder = tmp_path / "photos"
    folder.mkdir()
    made = []
    for split, count in (("train", 7), ("queries", 3), ("database", 4)):
        for number in range(count):
            path = folder / f"{split} {number}.png"
            path.write_bytes(png(len(made)))
            made.append(PhotoEntry(path.name, path, INSTANCES[number], split))
    return made


def tree(directory):
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*")}


def rows(path):
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def examples(path):
    return [records.decode_record(item) for item in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]


def test_every_photo_is_read_back_with_all_it_had(entries, tmp_path):
    made, rejected = write_record_set(entries, tmp_path / "set", WriteOptions("small"))
    assert rejected == []
    assert made.labels == ("Abbey", "Köln, \u2028Dom", "bridge", "zoo")
    assert list(made.splits) == ["train", "queries", "database"]
    for name in made.splits:
        wanted = [entry for entry in entries if entry.split == name]
        found = examples(tmp_path / "set" / f"{name}-00000-of-00001.tfrecord")
        assert [record.photo_id for record in found] == [entry.photo_id for entry in wanted]
        assert [record.instance for record in found] == [entry.instance for entry in wanted]
        assert [made.labels[record.label] for record in found] == [entry.instance for entry in wanted]
        assert [record.photo.encoded for record in found] == [entry.path.read_bytes() for entry in wanted]
        assert {(record.photo.format, record.photo.height, record.photo.width) for record in found} == {("PNG", 6, 8)}


def test_boxes_are_normalised_by_the_size_of_the_upright_photo(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored 8 wide and 4 high, shown 4 wide and 8 high
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    boxes = ((1.0, 2.0, 4.0, 8.0), (0.0, 0.0, 2.0, 1.0))
    entry = PhotoEntry("a.jpg", tmp_path / "a.jpg", "gate", "queries", boxes)
    write_record_set([entry], tmp_path / "set", WriteOptions("small"))
    (record,) = examples(tmp_path / "set" / "queries-00000-of-00001.tfrecord")
    assert record.boxes == ((0.25, 0.25, 1.0, 1.0), (0.0, 0.0, 0.5, 0.125))


@pytest.mark.parametrize(
    ("shards", "counts"), [(0, [7]), (1, [7]), (2, [3, 4]), (3, [2, 2, 3]), (7, [1] * 7), (100, [1] * 7)]
)
def test_shards_share_the_photos_evenly(entries, tmp_path, shards, counts):
    train = [entry for entry in entries if entry.split == "train"]
    write_record_set(train, tmp_path / "set", WriteOptions("small", shards=shards))
    names = sorted(path.name for path in (tmp_path / "set").glob("*.tfrecord"))
    assert names == [f"train-{shard:05d}-of-{len(counts):05d}.tfrecord" for shard in range(len(counts))]
    assert [len(examples(tmp_path / "set" / name)) for name in names] == counts


def test_a_shard_is_made_for_every_so_many_photos(entries, tmp_path, monkeypatch):
    assert record_shards.PHOTOS_PER_SHARD == 1024
    monkeypatch.setattr(record_shards, "PHOTOS_PER_SHARD", 4)
    made, _ = write_record_set(entries, tmp_path / "set", WriteOptions("small"))
    assert {name: len(split.shards) for name, split in made.splits.items()} == {
        "train": 2,
        "queries": 1,
        "database": 1,
    }


def test_the_index_says_where_each_record_lies(entries, tmp_path):
    write_record_set(entries, tmp_path / "set", WriteOptions("small", shards=3))
    indexed = rows(tmp_path / "set" / "photos.csv")
    assert [(row["split"], row["photo"]) for row in indexed] == [(entry.split, entry.photo_id) for entry in entries]
    for row in indexed:
        shard = (tmp_path / "set" / row["shard"]).read_bytes()
        start, length = int(row["offset"]), int(row["length"])
        record = records.decode_record(shard[start : start + length])
        assert record.photo_id == row["photo"]
        assert (record.label, record.photo.height, record.photo.width) == (
            int(row["label"]),
            int(row["height"]),
            int(row["width"]),
        )
        assert row["shard"].startswith(row["split"])


def test_the_description_states_hashes_sizes_and_counts(entries, tmp_path):
    options = WriteOptions("small", shards=2, flags={"source": "folder"}, seed=5)
    made, _ = write_record_set(entries, tmp_path / "set", options)
    description = json.loads((tmp_path / "set" / "dataset.json").read_text(encoding="utf-8"))
    listed = [shard for split in description["splits"].values() for shard in split["shards"]]
    assert [shard["file"] for shard in listed] == [
        f"{split}-{shard:05d}-of-00002.tfrecord" for split in ("train", "queries", "database") for shard in range(2)
    ]
    for shard in listed:
        data = (tmp_path / "set" / shard["file"]).read_bytes()
        assert shard["sha256"] == hashlib.sha256(data).hexdigest()
        assert shard["bytes"] == len(data)
        assert shard["photos"] == len(examples(tmp_path / "set" / shard["file"]))
    digest = hashlib.sha256("\n".join(shard["sha256"] for shard in listed).encode()).hexdigest()
    assert description["sha256"] == description["data"]["records"] == made.sha256 == digest
    assert {name: (split["photos"], split["instances"]) for name, split in description["splits"].items()} == {
        "train": (7, 4),
        "queries": (3, 2),
        "database": (4, 3),
    }
    assert description["labels"] == ["Abbey", "Köln, \u2028Dom", "bridge", "zoo"]
    assert (description["name"], description["flags"], description["seed"]) == ("small", {"source": "folder"}, 5)
    assert description["rejected"] == 0


@pytest.mark.parametrize(
    ("splits", "counts"),
    [
        (("train",), None),
        (("queries",), {"queries": 3}),
        (("train", "database"), {"database": 4}),
        (("train", "queries", "database"), {"queries": 3, "database": 4}),
    ],
)
def test_a_benchmark_is_described_only_with_queries_or_a_database(entries, tmp_path, splits, counts):
    wanted = [entry for entry in entries if entry.split in splits]
    made, _ = write_record_set(wanted, tmp_path / "set", WriteOptions("small"))
    benchmark = tmp_path / "set" / "benchmark.json"
    assert benchmark.exists() == (counts is not None)
    if counts:
        expected = {"name": "small", "relevance": "instance", **counts, "sha256": made.sha256}
        assert json.loads(benchmark.read_text()) == expected


def test_the_same_photos_give_the_same_bytes_in_every_file(entries, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3)).astype(np.uint8)).save(buffer, "WEBP")
    entries[0].path.write_bytes(buffer.getvalue())  # one that has to be written again
    entries[1].path.write_bytes(b"broken")
    options = WriteOptions("small", shards=2, flags={"a": 1})
    for name in ("one", "two"):
        write_record_set(entries, tmp_path / name, options)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert len(tree(tmp_path / "one")) == 6 + 4


@pytest.mark.parametrize("earlier", [False, True])
def test_an_exception_in_the_middle_leaves_an_earlier_set_or_nothing(entries, tmp_path, earlier):
    output = tmp_path / "new" / "set"
    if earlier:
        write_record_set(entries[:4], output, WriteOptions("earlier"))
    before = tree(output) if earlier else None

    def failing(stream):
        for number, photo in enumerate(stream):
            if number == 5:
                raise RuntimeError("the disk is full")
            yield photo

    with pytest.raises(RuntimeError, match="the disk is full"):
        write_record_set(entries, output, WriteOptions("small", shards=2), progress=failing)
    assert [path.name for path in output.parent.iterdir()] == (["set"] if earlier else [])
    assert not earlier or tree(output) == before


def test_an_earlier_set_is_replaced_whole(entries, tmp_path):
    write_record_set(entries, tmp_path / "set", WriteOptions("small", shards=3))
    made, _ = write_record_set(entries[:2], tmp_path / "set", WriteOptions("other"))
    assert sorted(tree(tmp_path / "set")) == [
        "dataset.json",
        "photos.csv",
        "rejected.csv",
        "train-00000-of-00001.tfrecord",
    ]
    assert made.name == "other"
    assert len(made.split()) == 2


def test_progress_sees_every_photo_and_the_end(entries, tmp_path):
    seen = []

    def counting(stream):
        for photo in stream:
            seen.append(photo)
            yield photo
        seen.append("end")

    write_record_set(entries, tmp_path / "set", WriteOptions("small"), progress=counting)
    assert len(seen) == len(entries) + 1


def spoil(entries):
    """Spoils four photos to train, each in another way; returns what rejected.csv should say."""
    entries[0].path.write_bytes(b"")
    entries[2].path.unlink()
    entries[3].path.write_bytes(png(3)[:45])
    entries[5].path.write_bytes(png(5, (100, 100)))
    return [
        Rejected(entries[0].photo_id, "train", "the file is empty"),
        Rejected(entries[2].photo_id, "train", "the file cannot be read: No such file or directory"),
        Rejected(entries[3].photo_id, "train", "the image data is broken"),
        Rejected(entries[5].photo_id, "train", "100x100 pixels, more than the 9999 that --max_pixels allows"),
    ]


def test_rejected_photos_are_listed_with_their_reasons_and_left_out(entries, tmp_path):
    expected = spoil(entries)
    options = WriteOptions("small", shards=2, max_pixels=9999, max_rejected=0.5)
    made, rejected = write_record_set(entries, tmp_path / "set", options)
    assert [(found.photo_id, found.split) for found in rejected] == [(one.photo_id, one.split) for one in expected]
    for found, one in zip(rejected, expected, strict=True):
        assert found.reason.startswith(one.reason)
    assert [Rejected(row["photo"], row["split"], row["reason"]) for row in rows(tmp_path / "set" / "rejected.csv")] == (
        rejected
    )
    assert made.splits["train"].ids == tuple(entries[kept].photo_id for kept in (1, 4, 6))
    description = json.loads((tmp_path / "set" / "dataset.json").read_text(encoding="utf-8"))
    assert description["rejected"] == 4
    assert (description["splits"]["train"]["photos"], description["splits"]["train"]["instances"]) == (3, 2)


def test_a_rejected_photo_moves_no_other_to_another_shard(entries, tmp_path):
    entries[0].path.write_bytes(b"broken")
    made, _ = write_record_set(entries, tmp_path / "set", WriteOptions("small", shards=3))
    assert np.bincount(made.splits["train"].shard).tolist() == [1, 2, 3]


def test_a_shard_may_lose_all_of_its_photos(entries, tmp_path):
    entries[8].path.write_bytes(b"broken")
    made, _ = write_record_set(entries, tmp_path / "set", WriteOptions("small", shards=3))
    queries = made.splits["queries"]
    assert queries.shard.tolist() == [0, 2]
    assert [records.decode_record(queries.read(row)).photo_id for row in range(2)] == list(queries.ids)


@pytest.mark.parametrize("box", [(0.0, 0.0, 8.5, 6.0), (0.0, 0.0, 8.0, 7.0)])
def test_a_box_outside_of_its_photo_rejects_it(entries, tmp_path, box):
    entries[0] = PhotoEntry(entries[0].photo_id, entries[0].path, "zoo", "train", (box,))
    _, (rejected,) = write_record_set(entries, tmp_path / "set", WriteOptions("small"))
    assert "reaches outside the photo of 8x6 pixels" in rejected.reason


@pytest.mark.parametrize(("max_rejected", "fails"), [(0.0, True), (0.14, True), (2 / 14, False), (1.0, False)])
def test_more_rejected_photos_than_allowed_fail_the_run(entries, tmp_path, max_rejected, fails):
    entries[0].path.write_bytes(b"broken")
    entries[9].path.write_bytes(b"broken")
    options = WriteOptions("small", max_rejected=max_rejected)
    if fails:
        sentence = r"2 of 14 photos had to be rejected \(first 'train 0\.png': not an image.*--max_rejected allows"
        with pytest.raises(InputError, match=sentence):
            write_record_set(entries, tmp_path / "set", options)
        assert not (tmp_path / "set").exists()
    else:
        assert len(write_record_set(entries, tmp_path / "set", options)[1]) == 2


def test_a_split_that_loses_all_of_its_photos_fails_the_run(entries, tmp_path):
    for entry in entries[7:10]:
        entry.path.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"every photo of the split 'queries' had to be rejected \(first 'queries 0"):
        write_record_set(entries, tmp_path / "set", WriteOptions("small", max_rejected=0.9))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"shards": -1}, "--shards is -1; 1 or more, or 0"),
        ({"max_rejected": 1.5}, r"--max_rejected is 1\.5; a share"),
        ({"max_rejected": -0.5}, r"--max_rejected is -0\.5; a share"),
        ({"max_pixels": 0}, "--max_pixels is 0; 1 or more"),
    ],
)
def test_options_out_of_range_are_named(entries, tmp_path, options, sentence):
    with pytest.raises(InputError, match=sentence):
        write_record_set(entries, tmp_path / "set", WriteOptions("small", **options))
    assert not (tmp_path / "set").exists()


def test_a_directory_of_other_files_is_refused_and_untouched(entries, tmp_path):
    photos = tmp_path / "photos"
    before = tree(photos)
    with pytest.raises(InputError, match=r"photos holds other files and no dataset\.json"):
        write_record_set(entries, photos, WriteOptions("small"))
    assert tree(photos) == before


def test_the_value_returned_is_the_set_on_disk(entries, tmp_path):
    made, _ = write_record_set(entries, tmp_path / "set", WriteOptions("small"))
    loaded = RecordSet.load(tmp_path / "set")
    assert (made.directory, made.sha256, made.labels) == (loaded.directory, loaded.sha256, loaded.labels)
    assert made.directory == tmp_path / "set"
