"""The TFRecord format of photos: feature names, writing and reading of one record, and where each lies in its shard."""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from tfretrieval.data.judgements import GRADES, QueryJudgement
from tfretrieval.data.photos import RecordPhoto

# A TFRecord is: length uint64, checksum of the length uint32, the data, checksum of the data uint32.
HEADER_BYTES = 12
FOOTER_BYTES = 4

FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/format": tf.io.FixedLenFeature([], tf.string),
    "image/height": tf.io.FixedLenFeature([], tf.int64),
    "image/width": tf.io.FixedLenFeature([], tf.int64),
    "image/id": tf.io.FixedLenFeature([], tf.string),
    "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    "image/class/text": tf.io.FixedLenFeature([], tf.string),
    "image/object/bbox/xmin": tf.io.VarLenFeature(tf.float32),
    "image/object/bbox/ymin": tf.io.VarLenFeature(tf.float32),
    "image/object/bbox/xmax": tf.io.VarLenFeature(tf.float32),
    "image/object/bbox/ymax": tf.io.VarLenFeature(tf.float32),
    "image/object/class/label": tf.io.VarLenFeature(tf.int64),
}
BOX_FEATURES = tuple(name for name in FEATURES if name.startswith("image/object/bbox/"))
FLAG_FEATURES = {
    "difficult": "image/object/difficult",
    "crowd": "image/object/is_crowd",
    "group": "image/object/group_of",
    "occluded": "image/object/occluded",
    "truncated": "image/object/truncated",
}
_CLASS_NAMES = "image/object/class/text"
_QUERY_BOX, _QUERY_GROUP = "query/box", "query/group"


@dataclasses.dataclass(frozen=True)
class RecordObject:
    """An object in a record's photo.

    Attributes:
        box: (xmin, ymin, xmax, ymax) in [0, 1].
        label: index of its class in the set's classes.
        name: its class.
        flags: keys of `FLAG_FEATURES` that are set.
    """

    box: tuple[float, float, float, float]
    label: int
    name: str
    flags: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Record:
    """What one record holds.

    Attributes:
        photo: the upright RGB photo.
        photo_id: its name.
        label: index of its instance in the set's label map, >= 0.
        instance: the instance's name.
        boxes: (xmin, ymin, xmax, ymax) tuples in [0, 1], each showing the instance.
        objects: objects of any class, in sets that have them; `boxes` is empty beside them.
        judgement: of a query, what its benchmark says of it; its box is held in 32 bits.
    """

    photo: RecordPhoto
    photo_id: str
    label: int
    instance: str
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    objects: tuple[RecordObject, ...] = ()
    judgement: QueryJudgement | None = None


def _bytes(*values: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _ints(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def serialize_record(record: Record) -> bytes:
    """Returns the record as a serialised `tf.train.Example`; equal records give equal bytes.

    Names are those of the TensorFlow Object Detection API. Records without objects have neither flags nor the objects'
    class names. Judged queries have `query/easy`, `query/hard` and `query/junk`, rows of the database, and where their
    benchmark gives them `query/box`, x1, y1, x2, y2 in pixels, and `query/group`: names of this toolkit's own.
    """
    labels = [item.label for item in record.objects] or [record.label] * len(record.boxes)
    boxes = [item.box for item in record.objects] or record.boxes
    features = {
        "image/encoded": _bytes(record.photo.encoded),
        "image/format": _bytes(record.photo.format.encode()),
        "image/height": _ints(record.photo.height),
        "image/width": _ints(record.photo.width),
        "image/id": _bytes(record.photo_id.encode()),
        "image/class/label": _ints(record.label),
        "image/class/text": _bytes(record.instance.encode()),
        "image/object/class/label": _ints(*labels),
    }
    for side, name in enumerate(("xmin", "ymin", "xmax", "ymax")):
        values = tf.train.FloatList(value=[box[side] for box in boxes])
        features[f"image/object/bbox/{name}"] = tf.train.Feature(float_list=values)
    if record.objects:
        features[_CLASS_NAMES] = _bytes(*(item.name.encode() for item in record.objects))
        for flag, name in FLAG_FEATURES.items():
            features[name] = _ints(*(int(flag in item.flags) for item in record.objects))
    if record.judgement:
        features |= _judgement_features(record.judgement)
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _judgement_features(judgement: QueryJudgement) -> dict[str, tf.train.Feature]:
    features = {f"query/{grade}": _ints(*getattr(judgement, grade)) for grade in GRADES}
    if judgement.box:
        features[_QUERY_BOX] = tf.train.Feature(float_list=tf.train.FloatList(value=judgement.box))
    if judgement.group:
        features[_QUERY_GROUP] = _bytes(judgement.group.encode())
    return features


def parse_record(serialized: tf.Tensor, names: tuple[str, ...] = tuple(FEATURES)) -> dict[str, tf.Tensor]:
    """Parses one serialised record in a tf.data pipeline.

    Args:
        serialized: string scalar.
        names: the features wanted, keys of `FEATURES`.

    Returns:
        A tensor for each name: scalars, and [boxes] vectors for the features of objects.
    """
    parsed = tf.io.parse_single_example(serialized, {name: FEATURES[name] for name in names})
    return {
        name: tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else value
        for name, value in parsed.items()
    }


def parse_objects(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parses the objects of one serialised record in a tf.data pipeline.

    Photos have different numbers of objects: `Dataset.ragged_batch` or `padded_batch` gathers them.

    Args:
        serialized: string scalar.

    Returns:
        `boxes` float32 [K, 4], (ymin, xmin, ymax, xmax) in [0, 1]; `classes` int64 [K]; and for each key of
        `FLAG_FEATURES` bool [K], false throughout where the record has no flags.
    """
    wanted = {name: FEATURES[name] for name in (*BOX_FEATURES, "image/object/class/label")}
    wanted |= {name: tf.io.VarLenFeature(tf.int64) for name in FLAG_FEATURES.values()}
    found = {name: tf.sparse.to_dense(value) for name, value in tf.io.parse_single_example(serialized, wanted).items()}
    sides = [found[f"image/object/bbox/{side}"] for side in ("ymin", "xmin", "ymax", "xmax")]
    classes = found["image/object/class/label"]
    parsed = {"boxes": tf.stack(sides, axis=-1), "classes": classes}
    for flag, name in FLAG_FEATURES.items():
        missing = tf.size(classes) - tf.size(found[name])
        parsed[flag] = tf.pad(found[name], [[0, missing]]) > 0
    return parsed


def decode_record(serialized: bytes) -> Record:
    """Reads one serialised record back into a `Record`, outside of TensorFlow graphs."""
    feature = tf.train.Example.FromString(serialized).features.feature
    first = {name: value.bytes_list.value or value.int64_list.value for name, value in feature.items()}
    boxes = tuple(zip(*(feature[name].float_list.value for name in BOX_FEATURES), strict=True))
    photo = RecordPhoto(
        first["image/encoded"][0], first["image/format"][0].decode(), first["image/height"][0], first["image/width"][0]
    )
    objects = _decode_objects(feature, boxes) if _CLASS_NAMES in feature else ()
    return Record(
        photo,
        first["image/id"][0].decode(),
        first["image/class/label"][0],
        first["image/class/text"][0].decode(),
        () if objects else boxes,
        objects,
        _decode_judgement(feature) if f"query/{GRADES[0]}" in feature else None,
    )


def _decode_judgement(feature: Mapping[str, tf.train.Feature]) -> QueryJudgement:
    """Reads the judgement of a record that has one."""
    rows = {grade: tuple(feature[f"query/{grade}"].int64_list.value) for grade in GRADES}
    box = tuple(feature[_QUERY_BOX].float_list.value) if _QUERY_BOX in feature else None
    group = feature[_QUERY_GROUP].bytes_list.value[0].decode() if _QUERY_GROUP in feature else ""
    return QueryJudgement(**rows, box=box, group=group)


def _decode_objects(feature: Mapping[str, tf.train.Feature], boxes: tuple[tuple, ...]) -> tuple[RecordObject, ...]:
    """Reads the objects of a record that has class names for them."""
    labels = feature["image/object/class/label"].int64_list.value
    names = feature[_CLASS_NAMES].bytes_list.value
    flags = {flag: feature[name].int64_list.value for flag, name in FLAG_FEATURES.items()}
    return tuple(
        RecordObject(box, label, name.decode(), frozenset(flag for flag, values in flags.items() if values[row]))
        for row, (box, label, name) in enumerate(zip(boxes, labels, names, strict=True))
    )
