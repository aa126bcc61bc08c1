import re

import numpy as np
import pytest

from tfretrieval.data.cars196 import read_cars196
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError

scipy_io = pytest.importorskip("scipy.io")
NAMES = [f"Maker Model {number} 2012" for number in range(1, 197)]
CARS = [("000001.jpg", 1), ("000002.jpg", 98), ("000003.jpg", 99), ("000004.jpg", 196), ("000005.jpg", 99)]
TOGETHER = "relative_im_path"


def annotations(photos, field, folder=""):
    """The structures as MATLAB lays them out: each field an array of its own, small numbers in small types."""
    fields = [(name, object) for name in (field, "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test")]
    made = np.empty((1, len(photos)), fields)
    for place, (name, label) in enumerate(photos):
        box = [np.array([[side]], np.uint16) for side in (10, 20, 600, 400)]
        made[0, place] = (np.array([folder + name]), *box, np.array([[label]], np.uint8), np.array([[0]], np.uint8))
    return made


def names(texts):
    made = np.empty((1, len(texts)), object)
    made[0] = [np.array([text]) for text in texts]
    return made


def touch(folder, photos):
    for photo in photos:
        (folder / photo).parent.mkdir(parents=True, exist_ok=True)
        (folder / photo).touch()
    return folder


def together(folder, photos=CARS, field=TOGETHER, class_names=NAMES, there=CARS):
    touch(folder, [f"car_ims/{name}" for name, _ in there])
    content = {"annotations": annotations(photos, field, "car_ims/"), "class_names": names(class_names)}
    scipy_io.savemat(folder / "cars_annos.mat", content)
    return folder


def kit(folder, place="devkit", meta=True):
    train, test = CARS[:3], [("000001.jpg", 196), ("000002.jpg", 1)]
    touch(folder, [*(f"cars_train/{name}" for name, _ in train), *(f"cars_test/{name}" for name, _ in test)])
    (folder / place).mkdir(exist_ok=True)
    scipy_io.savemat(folder / place / "cars_train_annos.mat", {"annotations": annotations(train, "fname")})
    scipy_io.savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": annotations(test, "fname")})
    if meta:
        scipy_io.savemat(folder / place / "cars_meta.mat", {"class_names": names(NAMES)})
    return folder


def listed(entries, split):
    return [(entry.photo_id, entry.instance) for entry in entries if entry.split == split]


def test_the_first_98_classes_train_and_the_others_are_searched(tmp_path):
    found = read_cars196(together(tmp_path), SourceOptions())
    assert listed(found, "train") == [("car_ims/000001.jpg", NAMES[0]), ("car_ims/000002.jpg", NAMES[97])]
    searched = [
        ("car_ims/000003.jpg", NAMES[98]),
        ("car_ims/000004.jpg", NAMES[195]),
        ("car_ims/000005.jpg", NAMES[98]),
    ]
    assert listed(found, "queries") == listed(found, "database") == searched
    assert found[0] == PhotoEntry("car_ims/000001.jpg", tmp_path / "car_ims/000001.jpg", NAMES[0], "train")


@pytest.mark.parametrize("place", ["devkit", "."])
def test_the_development_kit_has_the_same_in_two_folders(tmp_path, place):
    found = read_cars196(kit(tmp_path, place), SourceOptions())
    assert listed(found, "train") == [
        ("cars_train/000001.jpg", NAMES[0]),
        ("cars_train/000002.jpg", NAMES[97]),
        ("cars_test/000002.jpg", NAMES[0]),
    ]
    assert listed(found, "database") == [("cars_train/000003.jpg", NAMES[98]), ("cars_test/000001.jpg", NAMES[195])]


def test_classes_are_numbers_without_their_names(tmp_path):
    assert listed(read_cars196(kit(tmp_path, meta=False), SourceOptions()), "train")[0] == (
        "cars_train/000001.jpg",
        "1",
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"field": "fname"}, "lacks the field 'relative_im_path' in annotations (it has fname, bbox_x1"),
        ({"photos": [*CARS, CARS[0]]}, "annotations(6) is 'car_ims/000001.jpg', as "),
        ({"photos": [("a.jpg", 0)]}, "annotations(1): class is 0; a whole number from 1"),
        ({"photos": [("../../a.jpg", 1)]}, "annotations(1): relative_im_path is 'car_ims/../../a.jpg'"),
        ({"photos": CARS[:2]}, "has 2 photos to train and 0 to search"),
        ({"class_names": [NAMES[0]] * 2}, "class_names holds 'Maker Model 1 2012'; different names"),
        ({"there": CARS[:3]}, "names 5 photos and 2 are not there, first "),
    ],
)
def test_a_fault_is_named(tmp_path, options, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        read_cars196(together(tmp_path, **options), SourceOptions())


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"has no cars_annos\.mat, and no cars_train_annos\.mat, in it or in devkit"):
        read_cars196(tmp_path, SourceOptions())
    kit(tmp_path / "kit")
    (tmp_path / "kit" / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(InputError, match=r"and no cars_test_annos_withlabels\.mat, in it or in devkit"):
        read_cars196(tmp_path / "kit", SourceOptions())
    (tmp_path / "cars_annos.mat").write_bytes(b"no MATLAB file at all" * 20)
    with pytest.raises(InputError, match=r"cars_annos\.mat is not read as a MATLAB file \(.*\); one of Cars196's"):
        read_cars196(tmp_path, SourceOptions())
