"""What is told of two photos: places that are known to be the same, and a network's contributions."""

import base64
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from export.search_page import PhotoIndex, why
from export.search_page.why import Contributions
from tfretrieval import files
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor


def textured(seed, side=300):
    noise = np.random.default_rng(seed).integers(0, 256, (side // 6, side // 6, 3), np.uint8)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)


def test_places_of_a_part_are_told_in_shares_of_the_whole_photo():
    scene = textured(0)
    # The photo shows the scene in its right lower quarter; the other photo shows the scene 60 pixels further left.
    photo = np.zeros((600, 600, 3), np.uint8)
    photo[300:, 300:] = scene
    other = np.zeros((300, 300, 3), np.uint8)
    other[:, :240] = scene[:, 60:]
    told = why.places(Image.fromarray(photo), (300, 300, 600, 600), Image.fromarray(other))
    assert told["agreeing"] >= 20 and told["count"] >= told["agreeing"]
    assert 20 <= len(told["lines"]) <= 60 and all(agrees for *_, agrees in told["lines"])
    lines = np.array(told["lines"], float)
    np.testing.assert_allclose(lines[:, 0] * 600 - 300 - 60, lines[:, 2] * 300, atol=3)
    np.testing.assert_allclose(lines[:, 1] * 600 - 300, lines[:, 3] * 300, atol=3)


def test_photos_without_anything_in_common_say_so():
    plain = Image.new("RGB", (200, 100), (9, 120, 40))
    assert why.places(plain, (0, 0, 200, 100), plain) == {"count": 0, "agreeing": 0, "lines": []}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory as training leaves one, with a network that was not trained, and an index of it."""
    path = tmp_path_factory.mktemp("run") / "run"
    path.mkdir()
    build_descriptor(DescriptorConfig(backbone="small_resnet")).save(path / "best.keras")
    files.write_json(path / "run.json", {"training": {"image_size": 64}})
    return path


def index_of(sha256):
    return PhotoIndex(Descriptors(np.eye(2, dtype=np.float32), ("a", "b"), {"model_sha256": sha256}), "index")


def test_contributions_are_pictures_of_the_part_and_of_the_other_photo(run):
    made = Contributions.load(str(run), index_of(files.sha256(run / "best.keras")))
    seen = []
    explain = made._explain
    made._explain = lambda one, other: seen.append((one.shape, other.shape)) or explain(one, other)
    photo, other = Image.fromarray(textured(1, 240)), Image.fromarray(textured(2, 300)).crop((0, 0, 300, 150))
    told = made.pictures(photo, (0, 0, 120, 60), other)
    # Half of the photo's side is described at half of the run's 64 pixels, as the signature `query` does.
    assert seen == [((16, 32, 3), (32, 64, 3)), ((32, 64, 3), (16, 32, 3))]
    sizes = []
    for url in told:
        head, _, data = url.partition(",")
        assert head == "data:image/jpeg;base64"
        sizes.append(Image.open(io.BytesIO(base64.b64decode(data))).size)
    assert sizes == [(120, 60), (300, 150)]


def test_another_network_is_refused(run):
    with pytest.raises(InputError, match=r"is the network \w{12} and the index index was made with abababababab; its"):
        Contributions.load(str(run), index_of("ab" * 32))
