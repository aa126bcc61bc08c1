import keras
import numpy as np
import pytest
import tensorflow as tf

from export.example_photos import example_photos
from export.saving import ExportSource, ServedModel, write_version
from export.search_index import IndexSettings
from tfretrieval import files
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.layers import GeM, InputScaling
from tfretrieval.search.exact import search_top

SHA256 = "ab" * 32


@pytest.fixture(scope="module")
def source():
    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(16, 3, 2, padding="same", activation="relu")(InputScaling("tf")(pixels))
    return ExportSource(
        keras.Model(pixels, keras.layers.UnitNormalization(dtype="float32")(GeM()(maps))), 32, SHA256, {}
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Indexed descriptors, two of them equal, and ids that are more than ASCII."""
    vectors = np.abs(np.random.default_rng(0).normal(size=(50, 16))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[30] = vectors[7]
    folder = tmp_path_factory.mktemp("index") / "vectors"
    meta = {"model_sha256": SHA256, "data": {"records": "cd" * 32}}
    Descriptors(vectors, tuple(f"Köln/photo {row}" for row in range(50)), meta).save(folder)
    return folder


@pytest.fixture(scope="module")
def version(source, saved, tmp_path_factory):
    output = tmp_path_factory.mktemp("models") / "descriptor"
    return write_version(source, output, {}, index=IndexSettings(str(saved)))


def ask(version, photos, **inputs):
    """In a session, as a server asks; inputs that are left out are not fed."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(version))
        definition = graph.signature_def["search"]
        given = {"image_bytes": np.array(photos, object), **inputs}
        feeds = {definition.inputs[name].name: value for name, value in given.items()}
        return session.run({name: info.name for name, info in definition.outputs.items()}, feeds)


def test_search_answers_as_the_toolkits_search_of_the_served_descriptors(version, saved):
    photos, index = example_photos(32), Descriptors.load(saved)
    served = ServedModel.load(version).describe(photos)
    truth = search_top(served, np.asarray(index.vectors), 12)
    found = ask(version, photos, k=12)
    assert found["ids"].shape == found["scores"].shape == (8, 12)
    assert [[name.decode() for name in row] for row in found["ids"]] == [
        [index.ids[row] for row in order] for order in truth.order
    ]
    np.testing.assert_allclose(found["scores"], truth.similarity, atol=1e-6)


def test_k_may_be_left_out_and_is_never_more_than_there_is(version):
    photo = example_photos(32)[:1]
    assert ask(version, photo)["ids"].shape == (1, 10)
    assert ask(version, photo, k=500)["ids"].shape == (1, 50)
    assert ask(version, [], k=3)["ids"].shape == (0, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="k: 0; at least 1 is wanted"):
        ask(version, photo, k=0)


def test_of_equal_descriptors_the_one_indexed_first_comes_first(version):
    names = [name.decode() for name in ask(version, example_photos(32)[:1], k=50)["ids"][0]]
    assert names.index("Köln/photo 30") == names.index("Köln/photo 7") + 1


def test_the_card_tells_the_index(version, saved):
    card = files.read_json(version / "descriptor.json", "a card")
    assert card["search"] == {
        "kind": "exact",
        "photos": 50,
        "default_k": 10,
        "records": "cd" * 32,
        "vectors_sha256": files.sha256(saved / "vectors.npy"),
        "bytes": 50 * 16 * 4,
        "recall_against_exact": {"k": 10, "queries": 50, "recall": 1.0},
    }
    assert card["signatures"]["search"] == {
        "inputs": {
            "image_bytes": {"dtype": "string", "shape": [None]},
            "k": {"dtype": "int32", "shape": [], "default": 10},
        },
        "outputs": {
            "ids": {"dtype": "string", "shape": [None, None]},
            "scores": {"dtype": "float32", "shape": [None, None]},
        },
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "pq"])
def test_smaller_indexes_find_most_of_the_same(source, saved, tmp_path, kind):
    settings = IndexSettings(str(saved), kind, 8 if kind == "pq" else 0)
    smaller = write_version(source, tmp_path / "model", {}, index=settings)
    told = files.read_json(smaller / "descriptor.json", "a card")["search"]
    assert told["kind"] == kind and told["bytes"] == (50 * 16 + 50 * 4 if kind == "int8" else 50 * 8 + 8 * 256 * 2 * 4)
    assert told["recall_against_exact"]["recall"] > 0.9
    assert ask(smaller, example_photos(32), k=5)["ids"].shape == (8, 5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"vectors": np.ones((4, 8), np.float32)}, "has 8 dimensions and the network gives 16"),
        (
            {"meta": {"model_sha256": "ee" * 32}},
            r"was made with the model eeeeeeeeeeee\.\.\. and abababababab\.\.\. is exported",
        ),
        ({"vectors": np.full((4, 16), np.nan, np.float32)}, "holds numbers that are not finite"),
        ({"vectors": np.ones((0, 16), np.float32), "ids": ()}, "holds no descriptors"),
    ],
)
def test_an_index_that_does_not_fit_is_refused_before_anything_is_written(source, tmp_path, change, told):
    given = {"vectors": np.ones((4, 16), np.float32), "ids": ("a", "b", "c", "d"), "meta": {}} | change
    Descriptors(**given).save(tmp_path / "index")
    with pytest.raises(InputError, match=told):
        write_version(source, tmp_path / "model", {}, index=IndexSettings(str(tmp_path / "index")))
    assert not (tmp_path / "model").exists()
