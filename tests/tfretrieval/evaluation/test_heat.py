import cv2
import numpy as np
import pytest
from PIL import Image

from tfretrieval.data.photos import ORIENTATION
from tfretrieval.errors import InputError
from tfretrieval.evaluation import heat
from tfretrieval.evaluation.contributions import Contributions

GREY = np.full((40, 60, 3), 128, np.uint8)


def warmth(pixels):
    return pixels[..., 0].astype(int) - pixels[..., 2]


def test_positive_is_warm_negative_is_cold_and_nothing_is_grey():
    values = np.zeros((4, 6))
    values[0, 0], values[3, 5] = 2.0, -1.0
    found = heat.overlay(GREY, values, limit=2.0)
    assert found.shape == GREY.shape and found.dtype == np.uint8
    assert warmth(found)[2, 2] > 60
    assert warmth(found)[-2, -2] < -60
    middle = found[20, 30]
    assert middle.min() == middle.max()


def test_more_is_stronger():
    found = heat.overlay(np.full((8, 80, 3), 128, np.uint8), np.linspace(0, 1, 10)[None], 1.0)
    green = found[4, :, 1].astype(int)
    assert green[5] > green[40] > green[75]


def test_densities_have_the_similarity_as_their_mean():
    positions = np.random.default_rng(0).uniform(-0.01, 0.05, (5, 7)).astype(np.float32)
    found = Contributions(positions, 0.0, float(positions.sum()))
    assert heat.densities(found).mean() == pytest.approx(found.similarity, rel=1e-6)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("shape", [(40, 60), (300, 20), (1, 1), (900, 1200)])
def test_pictures_hold_every_photo_and_its_colours(count, shape, tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    found = Contributions(np.array([[0.1, -0.05], [0.2, 0.3]], np.float32), 0.1, 0.55)
    picture = heat.draw([heat.Panel("Ä very long name " * 12 + ".jpg", photo, found)] * count)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert 200 < picture.shape[0] < 1200 and 600 < picture.shape[1] < 1300
    assert (picture[:, -8:] == 255).all(), "the legend's figures run over the edge"
    heat.write_png(tmp_path / "picture.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "picture.png")), picture)


def test_pictures_are_written_or_the_path_is_named(tmp_path):
    heat.write_png(tmp_path / "grey.png", GREY)
    assert cv2.imread(str(tmp_path / "grey.png")).shape == GREY.shape
    with pytest.raises(InputError, match=r"--output=.*nowhere/grey\.png cannot be written"):
        heat.write_png(tmp_path / "nowhere" / "grey.png", GREY)


def test_photos_that_contribute_nothing_are_drawn():
    found = Contributions(np.zeros((2, 2), np.float32), 0.0, 0.0)
    heat.draw([heat.Panel("a", GREY, found)])


def test_photos_are_upright_and_of_the_networks_size(tmp_path):
    lying = np.zeros((50, 100, 3), np.uint8)
    lying[:, :50] = (250, 0, 0)
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned by 90 degrees clockwise: the left becomes the top
    Image.fromarray(lying).save(tmp_path / "lying.jpg", exif=exif, quality=95)
    photo = heat.read_photo(tmp_path / "lying.jpg", 60)
    assert photo.shape == (60, 30, 3)
    assert photo[5, 15, 0] > 200 and photo[55, 15, 0] < 50


def test_missing_and_broken_photos_are_named(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name in ("cut.jpg", "text.jpg", "empty.jpg", "absent.jpg", "."):
        with pytest.raises(InputError, match=r"cannot be read as a photo: .*an image file is wanted"):
            heat.read_photo(tmp_path / name, 64)
