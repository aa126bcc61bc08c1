import dataclasses

import pytest
import tensorflow as tf

from tfretrieval.data import records
from tfretrieval.data.judgements import QueryJudgement
from tfretrieval.data.photos import RecordPhoto
from tfretrieval.data.records import Record, RecordObject

# The names of the TensorFlow object detection and classification records, which other tools of the field read.
FIELD = {
    "image/encoded",
    "image/format",
    "image/height",
    "image/width",
    "image/id",
    "image/class/label",
    "image/class/text",
    "image/object/bbox/xmin",
    "image/object/bbox/ymin",
    "image/object/bbox/xmax",
    "image/object/bbox/ymax",
    "image/object/class/label",
}
PHOTO = RecordPhoto(b"\xff\xd8\xff\x00\n\r bytes", "JPEG", 480, 640)
PLAIN = Record(PHOTO, "straße/1 a.jpg", 3, "Kölner Dom")
BOXED = Record(PHOTO, "b\u2028.jpg", 0, "x", ((0.0, 0.25, 0.5, 1.0), (0.125, 0.0, 1.0, 0.75)))


def values(record):
    """The record's features, spelt out by hand."""
    return {
        "image/encoded": [record.photo.encoded],
        "image/format": [b"JPEG"],
        "image/height": [480],
        "image/width": [640],
        "image/id": [record.photo_id.encode()],
        "image/class/label": [record.label],
        "image/class/text": [record.instance.encode()],
        "image/object/bbox/xmin": [box[0] for box in record.boxes],
        "image/object/bbox/ymin": [box[1] for box in record.boxes],
        "image/object/bbox/xmax": [box[2] for box in record.boxes],
        "image/object/bbox/ymax": [box[3] for box in record.boxes],
        "image/object/class/label": [record.label] * len(record.boxes),
    }


def test_features_are_those_of_the_field():
    assert set(records.FEATURES) == FIELD


@pytest.mark.parametrize("record", [PLAIN, BOXED], ids=["plain", "boxed"])
def test_a_serialised_record_is_an_example_with_exactly_these_values(record):
    feature = tf.train.Example.FromString(records.serialize_record(record)).features.feature
    found = {
        name: list(value.bytes_list.value or value.int64_list.value or value.float_list.value)
        for name, value in feature.items()
    }
    assert found == values(record)


@pytest.mark.parametrize("record", [PLAIN, BOXED], ids=["plain", "boxed"])
def test_a_record_reads_back_equal(record):
    assert records.decode_record(records.serialize_record(record)) == record


JUDGED = {
    "full": QueryJudgement((4, 0, 4), (1,), (2, 3), (136.5, -3.25, 648.5, 955.75), "Köln"),
    "empty": QueryJudgement(()),
}


@pytest.mark.parametrize("kind", JUDGED)
def test_a_judged_query_has_rows_box_and_group_and_reads_back_equal(kind):
    record = dataclasses.replace(PLAIN, judgement=JUDGED[kind])
    feature = tf.train.Example.FromString(records.serialize_record(record)).features.feature
    found = {
        name: list(value.bytes_list.value or value.int64_list.value or value.float_list.value)
        for name, value in feature.items()
    }
    rows = {f"query/{grade}": list(getattr(JUDGED[kind], grade)) for grade in ("easy", "hard", "junk")}
    told = {"query/box": [136.5, -3.25, 648.5, 955.75], "query/group": ["Köln".encode()]} if kind == "full" else {}
    assert found == values(PLAIN) | rows | told
    assert records.decode_record(records.serialize_record(record)) == record


@pytest.mark.parametrize("record", [PLAIN, BOXED], ids=["plain", "boxed"])
def test_a_pipeline_parses_every_feature(record):
    dataset = tf.data.Dataset.from_tensors(records.serialize_record(record)).map(records.parse_record)
    (parsed,) = dataset.as_numpy_iterator()
    expected = values(record)
    assert set(parsed) == FIELD
    for name, value in parsed.items():
        assert (value.tolist() if name.startswith("image/object") else [value]) == expected[name], name


def test_a_pipeline_parses_only_what_it_asks_for():
    parsed = records.parse_record(records.serialize_record(PLAIN), ("image/id", "image/object/bbox/xmin"))
    assert set(parsed) == {"image/id", "image/object/bbox/xmin"}
    assert parsed["image/id"].numpy() == "straße/1 a.jpg".encode()


def test_equal_records_give_equal_bytes_with_the_features_in_sorted_order():
    (serialized,) = {records.serialize_record(BOXED) for _ in range(20)}
    places = [serialized.index(name.encode()) for name in sorted(FIELD)]
    assert places == sorted(places)


def test_header_and_footer_frame_the_data_in_a_shard(tmp_path):
    data = [records.serialize_record(record) for record in (PLAIN, BOXED)]
    with tf.io.TFRecordWriter(str(tmp_path / "shard")) as writer:
        for item in data:
            writer.write(item)
    written = (tmp_path / "shard").read_bytes()
    assert len(written) == sum(records.HEADER_BYTES + len(item) + records.FOOTER_BYTES for item in data)
    assert written[records.HEADER_BYTES :].startswith(data[0])


OBJECTS = Record(
    PHOTO,
    "c.jpg",
    1,
    "ace",
    (),
    (
        RecordObject((0.0, 0.25, 0.5, 1.0), 1, "ace", frozenset({"difficult", "truncated"})),
        RecordObject((0.125, 0.0, 1.0, 0.75), 0, "k\u00f6nig", frozenset({"crowd", "group", "occluded"})),
    ),
)


def test_a_record_with_objects_reads_back_equal():
    assert records.decode_record(records.serialize_record(OBJECTS)) == OBJECTS


def test_objects_stand_under_the_names_of_the_object_detection_api():
    feature = tf.train.Example.FromString(records.serialize_record(OBJECTS)).features.feature
    found = {
        name: list(value.bytes_list.value or value.int64_list.value or value.float_list.value)
        for name, value in feature.items()
        if name.startswith("image/object")
    }
    assert found == {
        "image/object/bbox/xmin": [0.0, 0.125],
        "image/object/bbox/ymin": [0.25, 0.0],
        "image/object/bbox/xmax": [0.5, 1.0],
        "image/object/bbox/ymax": [1.0, 0.75],
        "image/object/class/label": [1, 0],
        "image/object/class/text": [b"ace", "k\u00f6nig".encode()],
        "image/object/difficult": [1, 0],
        "image/object/is_crowd": [0, 1],
        "image/object/group_of": [0, 1],
        "image/object/occluded": [0, 1],
        "image/object/truncated": [1, 0],
    }


def test_a_pipeline_parses_objects_and_gathers_them_in_ragged_batches():
    made = [records.serialize_record(record) for record in (OBJECTS, PLAIN, BOXED)]
    (parsed,) = tf.data.Dataset.from_tensor_slices(made).map(records.parse_objects).ragged_batch(3)
    assert parsed["boxes"].to_list() == [
        [[0.25, 0.0, 1.0, 0.5], [0.0, 0.125, 0.75, 1.0]],
        [],
        [[0.25, 0.0, 1.0, 0.5], [0.0, 0.125, 0.75, 1.0]],
    ]
    assert parsed["classes"].to_list() == [[1, 0], [], [0, 0]]
    assert parsed["difficult"].to_list() == [[True, False], [], [False, False]]
    assert parsed["crowd"].to_list() == [[False, True], [], [False, False]]
    assert set(parsed) == {"boxes", "classes", "difficult", "crowd", "group", "occluded", "truncated"}
    assert parsed["boxes"].dtype == tf.float32
