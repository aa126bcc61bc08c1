"""The page's side of a real local server: whole photos, boxes, objects, and all that can be wrong with it."""

import io

import numpy as np
import pytest
from PIL import Image

from export.client import DescriptorClient
from export.saving import ServedModel
from export.search_page import ModelServer, PageError, PhotoIndex, SearchPage
from export.search_page.photo_sources import from_folder
from export.search_page.searching import Query
from export.server import LocalServer
from tfretrieval.descriptors import Descriptors
from tfretrieval.object_descriptors import ObjectBoxes, ObjectDescriptors

DIMENSION = 16


@pytest.fixture(scope="module")
def address(object_endpoint):
    """A server of the model with objects, `descriptor`."""
    return object_endpoint.grpc_address


@pytest.fixture(scope="module")
def server(address):
    made = ModelServer(address, timeout=20)
    yield made
    made.close()


@pytest.fixture(scope="module")
def card(object_base):
    return ServedModel.load(object_base).card


def index_of(dimension=DIMENSION, sha256=None):
    vectors = np.eye(3, dimension, dtype=np.float32)
    return PhotoIndex(Descriptors(vectors, ("a", "b", "c"), {"model_sha256": sha256}), "index")


def cut(file, box):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(file)).crop(box).save(buffer, "PNG")
    return buffer.getvalue()


def test_photos_and_boxes_are_described_as_the_model_does(address, server, object_photos, card):
    photo = object_photos[0][0]  # 36 x 48, which the model does not resize
    index = index_of(sha256=card["model_sha256"])
    with DescriptorClient(address) as client:
        (wanted,) = client.describe_objects([photo])
        (part,) = client.describe([cut(photo, (6, 8, 30, 40))])
    found = server.describe(photo, None, index)
    np.testing.assert_allclose(found.vector, wanted.descriptor, atol=1e-5)
    assert [each.box for each in found.objects] == [pytest.approx(each.box, abs=1e-3) for each in wanted.objects]
    boxed = server.describe(photo, (6.0, 8.0, 30.0, 40.0), index)
    np.testing.assert_allclose(boxed.vector, part, atol=1e-5)
    assert boxed.objects == ()
    assert np.dot(boxed.vector, found.vector) < 0.99999
    assert server.check(index)["image_size"] == 48


def test_an_index_of_objects_is_searched_by_the_objects_found(server, object_photos, card, tmp_path):
    mine, *others = [(photo, server.describe(photo, None, index_of())) for photo in object_photos[0]]
    other = next(each for each in others if each[1].objects)
    (tmp_path / "other.png").write_bytes(other[0])
    (tmp_path / "same.png").write_bytes(mine[0])
    described = [other[1], mine[1]]
    counts = [len(each.objects) for each in described]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    vectors = np.stack([each.descriptor for photo in described for each in photo.objects])
    numbers = np.concatenate([np.arange(count) for count in counts]).astype(np.int32)
    boxes = np.tile(np.array([[0.0, 0.25, 0.5, 1.0]], np.float32), (len(vectors), 1))
    placed = ObjectBoxes(offsets, boxes, np.ones(len(vectors), np.float32), 0 * numbers, numbers, ("coin",))
    whole = np.stack([each.vector for each in described])
    meta = {"model_sha256": card["model_sha256"]}
    index = PhotoIndex(ObjectDescriptors(("other.png", "same.png"), placed, vectors, whole, meta), "index")
    page = SearchPage(index, from_folder(tmp_path, index.ids), server)
    found = page.search(Query(photo=object_photos[0][0]))
    first = found["results"][0]
    assert (found["by"], first["id"], first["class"]) == ("objects", "same.png", "coin")
    assert first["matched"] == first["like"] and first["score"] == pytest.approx(1, abs=1e-4)
    assert first["boxes"][0] == [0.25, 0.0, 1.0, 0.5]  # left, top, right, bottom
    width, height = Image.open(io.BytesIO(object_photos[0][0])).size
    for told, wanted in zip(found["objects"], described[1].objects, strict=True):
        top, left, bottom, right = wanted.box
        assert told["box"] == pytest.approx([left / width, top / height, right / width, bottom / height], abs=1e-3)
    boxed = page.search(Query(row=1, box=(0.0, 0.0, 0.5, 0.5)))
    assert boxed["by"] == "box" and {result["like"] for result in boxed["results"]} == {0}


@pytest.mark.parametrize("boxed", [False, True])
def test_broken_photos_are_refused_in_the_servers_words(server, object_photos, boxed):
    box = (0.0, 0.0, 4.0, 4.0) if boxed else None
    for photo, told in (
        (b"no image", "The server refused the photo: not an image; one of JPEG, "),
        (object_photos[0][1][:200], "The server refused the photo: "),
    ):
        with pytest.raises(PageError) as caught:
            server.describe(photo, box, index_of())
        assert caught.value.status == 400
        assert caught.value.message.startswith(told) and "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("index", "told"),
    [
        (index_of(dimension=5), r"gives 16 dimensions and the one that made the index index 5; serve that model"),
        (index_of(sha256="ab" * 32), r"is \w{12} and the one that made the index index abababababab; serve that"),
    ],
)
def test_a_model_that_did_not_make_the_index_is_refused(server, object_photos, index, told):
    for ask in (lambda: server.check(index), lambda: server.describe(object_photos[0][0], None, index)):
        with pytest.raises(PageError, match=told) as caught:
            ask()
        assert caught.value.status == 409


def test_a_model_without_a_card_or_boxes_is_used_as_far_as_it_goes(photo_base, photos, expected):
    with LocalServer("plain", photo_base, file_system_poll_wait_seconds=0) as local:
        plain = ModelServer(local.grpc_address, "plain")
        np.testing.assert_allclose(plain.describe(photos[0], None, index_of(4)).vector, expected[0], atol=1e-6)
        with pytest.raises(PageError, match="has no signature 'query', which a box needs") as caught:
            plain.describe(photos[0], (0.0, 0.0, 2.0, 2.0), index_of(4))
        assert caught.value.status == 409
        with pytest.raises(PageError, match="gives 4 dimensions and the one that made the index index 16") as caught:
            plain.describe(photos[0], None, index_of(16))
        assert caught.value.status == 409
        plain.close()
        missing = ModelServer(local.grpc_address, "missing")
        with pytest.raises(PageError, match=r"cannot describe the photo: .*missing") as caught:
            missing.check(index_of(4))
        assert caught.value.status == 502
        missing.close()


def test_a_server_that_is_not_there_is_told_soon():
    away = ModelServer("127.0.0.1:9", timeout=1.0)
    with pytest.raises(
        PageError, match=r"The server 127.0.0.1:9 cannot be reached, or has too much to do; is it"
    ) as caught:
        away.check(index_of())
    away.close()
    assert caught.value.status in (503, 504)
