"""What tests share: TensorFlow started quietly, a small folder of distinguishable photos, and records made from it."""

import gc
import hashlib
import itertools
import json
import pickle

from tfretrieval import console

console.quiet_tensorflow()

import cv2  # noqa: E402 - TensorFlow is imported by the line above, so that nothing else starts it noisily
import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402
from PIL import Image  # noqa: E402

from tfretrieval.data.augmentation import Augmentation  # noqa: E402
from tfretrieval.data.object_sources import ObjectOptions, read_objects  # noqa: E402
from tfretrieval.data.objects import Annotation, Object, PhotoObjects  # noqa: E402
from tfretrieval.data.sources import PhotoEntry, SourceOptions, read_folder  # noqa: E402
from tfretrieval.data.write_records import WriteOptions, write_record_set  # noqa: E402
from tfretrieval.models.descriptor import DescriptorConfig  # noqa: E402
from tfretrieval.models.guided import BranchConfig, GuidedObjectEmbedder  # noqa: E402
from tfretrieval.models.pyramid import PyramidEncoder  # noqa: E402
from tfretrieval.training.config import TrainingConfig  # noqa: E402
from tfretrieval.training.run_directory import RunDirectory  # noqa: E402
from tfretrieval.training.train import train  # noqa: E402

pytest_plugins = ["chromium_driver", "script_modules"]  # of tests/shared

INSTANCES = ("abbey", "bridge", "castle", "dome", "old town/gate", "old town/tower")
SIZES = ((48, 64), (64, 48), (56, 56), (40, 64), (48, 64))


def _smooth(rng, height, width):
    """A random colour picture of 5 x 6 soft patches, float [height, width, 3] in about [0, 255]."""
    return cv2.resize(rng.uniform(0, 255, (5, 6, 3)), (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory):
    """Six instances (two of them nested) of five photos each, JPEG and PNG, in four sizes.

    Photos of one instance share a picture, with a quarter of another one laid over it.
    """
    folder = tmp_path_factory.mktemp("shared") / "photos"
    for number, instance in enumerate(INSTANCES):
        (folder / instance).mkdir(parents=True)
        for photo, size in enumerate(SIZES):
            picture = 0.75 * _smooth(np.random.default_rng(number), *size)
            picture += 0.25 * _smooth(np.random.default_rng([number, photo, 1]), *size)
            image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
            image.save(folder / instance / f"photo_{photo}.{'png' if photo % 2 else 'jpg'}")
    return folder


@pytest.fixture(scope="session")
def sfm_folder(photo_folder, tmp_path_factory):
    """The photos of `photo_folder` as retrieval-SfM has its own: `ims`, a list, and a list for whitening.

    Four instances train, two validate. Of a training instance's photos, the first three match each other and the last
    two do not; those of the fourth match none. One photo is paired with itself, as in the published file.
    """
    folder = tmp_path_factory.mktemp("shared") / "retrieval-SfM-6"
    splits = {}
    for split, instances in (("train", INSTANCES[:4]), ("val", INSTANCES[4:])):
        made = splits[split] = {"cids": [], "cluster": [], "qidxs": [], "pidxs": []}
        for cluster, instance in enumerate(instances):
            first = len(made["cids"])
            for photo in sorted((photo_folder / instance).iterdir()):
                cid = hashlib.md5(photo.read_bytes()).hexdigest()
                path = folder / "ims" / cid[-2:] / cid[-4:-2] / cid[-6:-4] / cid
                path.parent.mkdir(parents=True)
                path.write_bytes(photo.read_bytes())
                made["cids"].append(cid)
                made["cluster"].append(cluster)
            for query, positive in itertools.permutations(range(first, first + 3), 2) if cluster < 3 else ():
                made["qidxs"].append(query)
                made["pidxs"].append(positive)
    splits["train"]["qidxs"].append(7)
    splits["train"]["pidxs"].append(7)
    (folder / "retrieval-SfM-6.pkl").write_bytes(pickle.dumps(splits, protocol=2))
    whiten = {field: splits["train"][field] for field in ("cids", "qidxs", "pidxs")}
    (folder / "retrieval-SfM-6-whiten.pkl").write_bytes(pickle.dumps(whiten, protocol=2))
    return folder


@pytest.fixture(scope="session")
def record_set(photo_folder, tmp_path_factory):
    """Records of `photo_folder` in three shards a split: 15 photos to train, 3 queries, a database of 12."""
    entries = read_folder(photo_folder, SourceOptions(holdout_share=0.5, seed=1))
    made, rejected = write_record_set(
        entries, tmp_path_factory.mktemp("shared") / "records", WriteOptions("small", shards=3)
    )
    assert not rejected
    return made


@pytest.fixture(scope="session")
def training_set(photo_folder, tmp_path_factory):
    """Records of `photo_folder` in two shards, all 30 photos of six instances to train."""
    entries = read_folder(photo_folder, SourceOptions())
    return write_record_set(entries, tmp_path_factory.mktemp("shared") / "training", WriteOptions("small", shards=2))[0]


@pytest.fixture(scope="session")
def tiny_run(training_set, tmp_path_factory):
    """A run of two steps on `training_set`, of a small network at 48 px."""
    config = TrainingConfig(
        loss="supervised_contrastive", instances=3, photos=2, steps=2, epochs=1, image_size=48, validation_share=0.0
    )
    output = tmp_path_factory.mktemp("shared") / "run"
    return train(training_set, output, DescriptorConfig(backbone="small_resnet"), config, Augmentation(), {})[0]


@pytest.fixture(scope="session")
def boxed_photos(tmp_path_factory):
    """Twelve photos of 64 x 96 with one bright block each, or two, and COCO's list of them: classes red and blue."""
    folder = tmp_path_factory.mktemp("shared") / "boxed"
    folder.mkdir()
    images, annotations = [], []
    for number in range(12):
        rng = np.random.default_rng([number, 7])
        pixels = _smooth(rng, 64, 96).clip(0, 120).astype(np.uint8)
        for part in range(1 + number % 2):
            height, width = rng.integers(20, 40, 2)
            left, top = part * 48 + rng.integers(0, 48 - width + 1), rng.integers(0, 64 - height)
            kind = (number // 2 + part) % 2
            pixels[top : top + height, left : left + width] = (250, 30, 30) if kind == 0 else (30, 30, 250)
            box = [int(left), int(top), int(width), int(height)]
            annotations.append({"id": len(annotations), "image_id": number, "category_id": kind + 1, "bbox": box})
        Image.fromarray(pixels).save(folder / f"photo_{number:02}.png")
        images.append({"id": number, "file_name": f"photo_{number:02}.png", "height": 64, "width": 96})
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(coco), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def object_set(boxed_photos, tmp_path_factory):
    """Records of `boxed_photos`, all to train: 18 objects of two classes."""
    found = read_objects("coco", boxed_photos, SourceOptions(), ObjectOptions({"train": ("instances",)}))
    made, _ = write_record_set(
        found.entries, tmp_path_factory.mktemp("shared") / "objects", WriteOptions("boxed", classes=found.classes)
    )
    return made


OBJECT_CLASSES = ("coin", "key", "stamp")


def guided_network():
    """A `GuidedObjectEmbedder` of five convolutions, drawn so that it finds much: detectors of the registry take long.

    Levels 4 and 5, three classes, descriptors of 16 dimensions.
    """
    import keras_hub  # takes seconds to import, and most tests detect nothing

    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    maps = pixels
    for level in range(1, 6):
        maps = keras.layers.Conv2D(
            8, 3, 2, padding="same", activation="relu", kernel_initializer="he_normal", name=f"level_{level}"
        )(maps)
    trunk = keras.Model(pixels, maps)
    encoder = PyramidEncoder(trunk, {4: "level_4", 5: "level_5"}, "tf", 32, name="encoder")
    hub = keras_hub.models
    pyramid = hub.RetinaNetBackbone(image_encoder=encoder, min_level=4, max_level=5, use_p5=False, name="pyramid")
    detector = hub.RetinaNetObjectDetector(
        backbone=pyramid,
        num_classes=len(OBJECT_CLASSES),
        bounding_box_format="yxyx",
        pre_logits_num_conv_layers=0,
        name="detector",
    )
    for head, spread, bias in ((detector.box_head, 0.1, 0.0), (detector.classification_head, 0.5, -3.0)):
        layer = head.prediction_layer
        layer.kernel.assign(keras.random.normal(layer.kernel.shape, stddev=spread, seed=1))
        layer.bias.assign(keras.ops.full(layer.bias.shape, bias))
    branch = BranchConfig(dimension=16, branch_size=3, branch_layers=1, branch_width=8)
    model = GuidedObjectEmbedder(detector, branch, name="objects")
    model({"photos": tf.zeros([1, 32, 32, 3]), "boxes": tf.zeros([1, 1, 4]), "valid": tf.ones([1, 1], tf.bool)})
    return model


@pytest.fixture(scope="session")
def guided_run(tmp_path_factory):
    """A run as pipelines.train_objects leaves it, of an untrained network at 48 px."""
    description = {
        "flags": {},
        "seed": 7,
        "data": {"records": "ab" * 32},
        "protocol": {"image_size": 48},
        "classes": list(OBJECT_CLASSES),
        "training": {"size": 48, "image_size": 0},
    }
    run = RunDirectory.create(tmp_path_factory.mktemp("guided") / "run", description, resume=False)
    guided_network().save(run.model("best"))
    return run


# Of each photo the objects: class, (xmin, ymin, xmax, ymax), flags. "shared" is a query photo and in the database too.
OBJECT_QUERIES = {
    "shared": [("coin", (4, 6, 44, 40), ()), ("key", (50, 10, 92, 52), ())],
    "second": [("stamp", (10, 20, 50, 60), ()), ("coin", (56, 4, 90, 44), ("difficult",))],
    "third": [("key", (30, 8, 76, 50), ()), ("coin", (2, 2, 28, 60), ("crowd",))],
}
OBJECT_DATABASE = {
    "both": [("key", (2, 4, 46, 48), ()), ("coin", (48, 16, 94, 60), ())],
    "coin": [("coin", (20, 10, 60, 50), ())],
    "doubtful": [("key", (8, 8, 48, 44), ("difficult",)), ("stamp", (50, 12, 88, 56), ())],
    "empty": [],
    "key": [("key", (40, 2, 84, 46), ())],
    "shared": OBJECT_QUERIES["shared"],
    "stamps": [("stamp", (6, 12, 48, 54), ()), ("stamp", (52, 4, 94, 40), ())],
}


@pytest.fixture(scope="session")
def object_benchmark(tmp_path_factory):
    """Records of photos of 64 x 96 with soft patches as objects: the splits `queries` and `database`."""
    folder, entries = tmp_path_factory.mktemp("shared") / "object_photos", []
    folder.mkdir()
    for split, photos in (("queries", OBJECT_QUERIES), ("database", OBJECT_DATABASE)):
        for name, placed in photos.items():
            rng = np.random.default_rng([*map(ord, name)])
            pixels = 0.5 * _smooth(rng, 64, 96)
            for kind, (left, top, right, bottom), _ in placed:
                patch = _smooth(np.random.default_rng(OBJECT_CLASSES.index(kind)), bottom - top, right - left)
                pixels[top:bottom, left:right] = 0.7 * patch + 0.6 * pixels[top:bottom, left:right]
            path = folder / f"{name}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
            objects = tuple(
                Object(number, kind, box, frozenset(flags)) for number, (kind, box, flags) in enumerate(placed)
            )
            wanted = PhotoObjects(Annotation(path, objects), keep_empty=True)
            entries.append(PhotoEntry(name, path, placed[0][0] if placed else "none", split, objects=wanted))
    options = WriteOptions("small-things", classes=OBJECT_CLASSES)
    made, rejected = write_record_set(entries, tmp_path_factory.mktemp("shared") / "object_benchmark", options)
    assert not rejected
    return made


@pytest.fixture(autouse=True, scope="module")
def _memory_is_given_back():
    """Networks hold themselves in reference cycles; without this the suite grows by gigabytes."""
    yield
    gc.collect()
