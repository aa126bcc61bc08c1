"""The TFRecord format of photos: feature names, writing and reading of one record, and where each lies in its shard."""

import dataclasses

import tensorflow as tf

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


@dataclasses.dataclass(frozen=True)
class Record:
    """What one record holds.

    Attributes:
        photo: the upright RGB photo.
        photo_id: its name.
        label: index of its instance in the set's label map, >= 0.
        instance: the instance's name.
        boxes: (xmin, ymin, xmax, ymax) tuples in [0, 1], each showing the instance.
    """

    photo: RecordPhoto
    photo_id: str
    label: int
    instance: str
    boxes: tuple[tuple[float, float, float, float], ...] = ()


def _bytes(*values: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def _ints(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def serialize_record(record: Record) -> bytes:
    """Returns the record as a serialised `tf.train.Example`; equal records give equal bytes."""
    features = {
        "image/encoded": _bytes(record.photo.encoded),
        "image/format": _bytes(record.photo.format.encode()),
        "image/height": _ints(record.photo.height),
        "image/width": _ints(record.photo.width),
        "image/id": _bytes(record.photo_id.encode()),
        "image/class/label": _ints(record.label),
        "image/class/text": _bytes(record.instance.encode()),
        "image/object/class/label": _ints(*(record.label for _ in record.boxes)),
    }
    for side, name in enumerate(("xmin", "ymin", "xmax", "ymax")):
        values = tf.train.FloatList(value=[box[side] for box in record.boxes])
        features[f"image/object/bbox/{name}"] = tf.train.Feature(float_list=values)
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


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


def decode_record(serialized: bytes) -> Record:
    """Reads one serialised record back into a `Record`, outside of TensorFlow graphs."""
    feature = tf.train.Example.FromString(serialized).features.feature
    first = {name: value.bytes_list.value or value.int64_list.value for name, value in feature.items()}
    boxes = zip(*(feature[name].float_list.value for name in BOX_FEATURES), strict=True)
    photo = RecordPhoto(
        first["image/encoded"][0], first["image/format"][0].decode(), first["image/height"][0], first["image/width"][0]
    )
    return Record(
        photo,
        first["image/id"][0].decode(),
        first["image/class/label"][0],
        first["image/class/text"][0].decode(),
        tuple(boxes),
    )
