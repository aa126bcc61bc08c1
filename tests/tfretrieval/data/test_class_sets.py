import re

import pytest

from tfretrieval.data.class_sets import read_cub200, read_in_shop, read_sop
from tfretrieval.data.sources import PhotoEntry, SourceOptions
from tfretrieval.errors import InputError


def make(folder, photos, **lists):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in lists.items():
        place = folder / f"{name.replace('__', '/')}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    for photo in photos:
        (folder / photo).parent.mkdir(parents=True, exist_ok=True)
        (folder / photo).touch()
    return folder


def splits_of(entries):
    splits = {}
    for entry in entries:
        splits.setdefault(entry.split, []).append(entry.photo_id)
    return splits


BIRDS = {
    1: ("001.Black_footed_Albatross/Black_0046_18.jpg", 1),
    2: ("100.Brown_Pelican/Brown_1.jpg", 100),
    3: ("101.White_Pelican/White_1.jpg", 101),
    4: ("200.Common_Yellowthroat/Common_9.jpg", 200),
    5: ("101.White_Pelican/White_2.jpg", 101),
}


def birds(folder, images=None, labels=None, lost=()):
    images = images or "".join(f"{number} {path}\n" for number, (path, _) in BIRDS.items())
    labels = labels or "".join(f"{number} {label}\n" for number, (_, label) in BIRDS.items())
    photos = [f"images/{path}" for path, _ in BIRDS.values() if path not in lost]
    return make(folder, photos, images=images, image_class_labels=labels)


@pytest.mark.parametrize("inside", ["CUB_200_2011", "."])
def test_cub_trains_on_the_first_hundred_classes_and_searches_the_others(tmp_path, inside):
    birds(tmp_path / inside)
    found = read_cub200(tmp_path, SourceOptions())
    searched = [BIRDS[number][0] for number in (3, 4, 5)]
    assert splits_of(found) == {"train": [BIRDS[1][0], BIRDS[2][0]], "queries": searched, "database": searched}
    path = tmp_path / inside / "images" / BIRDS[3][0]
    assert found[2] == PhotoEntry(BIRDS[3][0], path, "101.White_Pelican", "queries")
    assert {entry.instance for entry in found if entry.split == "train"} == {
        "001.Black_footed_Albatross",
        "100.Brown_Pelican",
    }


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"images": "1 a/b.jpg c\n"}, "images.txt line 1 has 3 words ('1 a/b.jpg c'); 2, image path, are wanted"),
        ({"images": "1 a/1.jpg\n2 a/1.jpg\n"}, "images.txt line 2: the path is 'a/1.jpg', as on line 1"),
        ({"images": "1 a/1.jpg\n1 a/2.jpg\n"}, "images.txt line 2: the image is '1', as on line 1"),
        ({"images": "1 ../1.jpg\n"}, "images.txt line 1: the path is '../1.jpg'; a photo's name"),
        ({"images": "9 a/1.jpg\n"}, "images.txt line 1: the image '9' is not in "),
        ({"images": "1 a/1.jpg\n"}, "names no photo of the second part"),
        ({"labels": "1 1\n1 2\n"}, "image_class_labels.txt line 2: the image is '1', as on line 1"),
        ({"labels": "1 x\n"}, "image_class_labels.txt line 1: the class is 'x'; a whole number from 1"),
        ({"labels": "1 0\n"}, "image_class_labels.txt line 1: the class is '0'"),
        ({"lost": (BIRDS[4][0], BIRDS[5][0])}, "names 5 photos and 2 are not there, first "),
    ],
)
def test_a_fault_of_cub_is_named(tmp_path, options, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        read_cub200(birds(tmp_path, **options), SourceOptions())


HEADER = "image_id class_id super_class_id path\n"
TRAIN = "1 1 1 bicycle_final/111_0.JPG\n2 1 1 bicycle_final/111_1.JPG\n3 2 1 bicycle_final/222_0.JPG\n"
TEST = "59552 11319 1 chair_final/333_0.JPG\n59553 11319 1 chair_final/333_1.JPG\n"
PRODUCTS = [line.split()[3] for line in (TRAIN + TEST).splitlines()]


def products(folder, train=HEADER + TRAIN, test=HEADER + TEST, photos=PRODUCTS):
    return make(folder, photos, Ebay_train=train, Ebay_test=test)


def test_sop_has_its_own_lists_of_both_parts(tmp_path):
    found = read_sop(products(tmp_path), SourceOptions())
    assert splits_of(found) == {"train": PRODUCTS[:3], "queries": PRODUCTS[3:], "database": PRODUCTS[3:]}
    assert found[0] == PhotoEntry(PRODUCTS[0], tmp_path / PRODUCTS[0], "1", "train")
    assert found[-1] == PhotoEntry(PRODUCTS[4], tmp_path / PRODUCTS[4], "11319", "database")
    assert read_sop(products(tmp_path / "b", train=TRAIN), SourceOptions())[0].photo_id == PRODUCTS[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"train": HEADER}, "names no photo of the first part"),
        ({"test": HEADER}, "names no photo of the second part"),
        ({"train": HEADER + "1 1 a.jpg\n"}, "Ebay_train.txt line 2 has 3 words"),
        ({"train": HEADER + "1 x 1 a.jpg\n"}, "Ebay_train.txt line 2: class_id is 'x'; a whole number from 1"),
        ({"test": HEADER + "1 3 1 /a.jpg\n"}, "Ebay_test.txt line 2: path is '/a.jpg'"),
        ({"test": HEADER + TEST + TEST}, "Ebay_test.txt line 4: path is 'chair_final/333_0.JPG', as on line 2"),
        ({"test": HEADER + "9 2 1 chair_final/333_0.JPG\n"}, "has the class 2 with 'chair_final/333_0.JPG', as "),
        ({"photos": PRODUCTS[:4]}, "names 5 photos and 1 are not there, first "),
    ],
)
def test_a_fault_of_sop_is_named(tmp_path, options, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        read_sop(products(tmp_path, **options), SourceOptions())


PARTITION = """5
image_name item_id evaluation_status
img/WOMEN/Dresses/id_00000002/02_1_front.jpg id_00000002                    train
img/WOMEN/Dresses/id_00000001/01_1_front.jpg      id_00000001               query
img/WOMEN/Dresses/id_00000001/01_2_side.jpg       id_00000001               gallery
img/MEN/Denim/id_00000080/01_1_front.jpg          id_00000080               gallery
img/MEN/Denim/id_00000080/01_7_additional.jpg     id_00000080               query
"""
CLOTHES = [line.split()[0] for line in PARTITION.splitlines()[2:]]


@pytest.mark.parametrize(("listed", "photos"), [("list_eval_partition", "."), ("Eval__list_eval_partition", "Img")])
def test_in_shop_has_queries_and_a_gallery(tmp_path, listed, photos):
    make(tmp_path, [f"{photos}/{name}" for name in CLOTHES], **{listed: PARTITION})
    found = read_in_shop(tmp_path, SourceOptions())
    assert splits_of(found) == {
        "train": [CLOTHES[0]],
        "queries": [CLOTHES[1], CLOTHES[4]],
        "database": [CLOTHES[2], CLOTHES[3]],
    }
    assert found[1] == PhotoEntry(CLOTHES[1], tmp_path / photos / CLOTHES[1], "id_00000001", "queries")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("gallery\n", "test\n"), "line 5: evaluation_status is 'test'; train, query or gallery"),
        (("id_00000001               query", "query"), "line 4 has 2 words"),
        (("additional", "front"), "line 7: image_name is 'img/MEN/Denim/id_00000080/01_7_front.jpg'"),
        (
            ("01_2_side", "01_1_front"),
            "line 5: image_name is 'img/WOMEN/Dresses/id_00000001/01_1_front.jpg', as on line 4",
        ),
        (("query\n", "train\n"), "names no photo of the first part"),
        (("01_7_additional", "lost"), "names 5 photos and 1 are not there, first "),
    ],
)
def test_a_fault_of_in_shop_is_named(tmp_path, change, sentence):
    text = PARTITION.replace(*change)
    if change[0] == "additional":
        text = text.replace("img/MEN/Denim/id_00000080/01_1_front.jpg ", "img/MEN/Denim/id_00000080/01_7_front.jpg ")
    make(tmp_path, CLOTHES, list_eval_partition=text)
    with pytest.raises(InputError, match=re.escape(sentence)):
        read_in_shop(tmp_path, SourceOptions())


@pytest.mark.parametrize(
    ("read", "sentence"),
    [
        (read_cub200, "has no images.txt in it, and its folders CUB_200_2011"),
        (read_sop, "has no Ebay_train.txt in it"),
        (read_in_shop, "has no list_eval_partition.txt in it, and its folders Eval"),
    ],
)
def test_a_missing_list_or_folder_is_named(tmp_path, read, sentence):
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, SourceOptions())
    with pytest.raises(InputError, match="nothing is not a folder"):
        read(tmp_path / "nothing", SourceOptions())
