import io
import json
import shlex

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from export import package, saving
from export.object_signature import ObjectSettings
from export.parity import compare
from export.precision_check import PrecisionSettings
from export.saving import ExportSource, ServedModel, load_source, serving_command, write_version
from export.served_session import ServedSession
from tfretrieval import files
from tfretrieval.data.decoding import decode_photo
from tfretrieval.errors import InputError
from tfretrieval.layers import GeM, InputScaling
from tfretrieval.models.descriptor import add_scales
from tfretrieval.training.run_directory import RunDirectory


def small_network(seed=0):
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((None, None, 3))
    maps = keras.layers.Conv2D(6, 3, 2, padding="same", activation="relu")(InputScaling("tf")(pixels))
    return keras.Model(pixels, keras.layers.UnitNormalization(dtype="float32")(GeM()(maps)))


def photos():
    made = []
    for seed, size in enumerate([(40, 30), (20, 64), (40, 30)]):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        made.append(buffer.getvalue())
    return made


def by_keras(model, longer_side):
    return np.concatenate(
        [model(decode_photo(tf.constant(photo), longer_side)[tf.newaxis], training=False) for photo in photos()]
    )


@pytest.fixture(scope="module")
def source():
    return ExportSource(small_network(), 32, "ab" * 32, {"seed": 5, "data": {"records": "cd" * 32}})


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory):
    """A model's folder with versions 1 and 2, of two networks."""
    output = tmp_path_factory.mktemp("models") / "own model"
    write_version(source, output, {"checkpoint": "runs/a"})
    write_version(ExportSource(small_network(1), 24, "ef" * 32, {}), output, {})
    return output


def saved_model(path, signature=None, name="serving_default"):
    """Some other SavedModel."""
    module = tf.Module()
    module.call = tf.function(lambda x: {"y": x + 1}, input_signature=[tf.TensorSpec([None], name="x")])
    tf.saved_model.save(module, str(path), signatures={name: module.call} if signature is None else signature)
    return path


def test_versions_are_numbered_from_1_and_the_newest_is_loaded(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]
    assert ServedModel.load(folder).version == folder / "2"
    assert ServedModel.load(folder / "1").version == folder / "1"


def test_the_next_version_follows_the_highest_as_a_number(source, tmp_path):
    for name in ("9", "10", "notes", ".11.partial-x"):
        (tmp_path / name).mkdir()
    (tmp_path / "12").write_text("a file is no version")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "write_package", lambda *given: None)
        assert write_version(source, tmp_path, {}) == tmp_path / "11"


def test_a_loaded_version_describes_like_its_network(folder, source):
    loaded = ServedModel.load(folder / "1")
    np.testing.assert_allclose(loaded.describe(photos()), by_keras(source.model, 32), atol=1e-5)
    assert loaded.describe([]).shape == (0, 6)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image_bytes\[1\]"):
        loaded.describe([photos()[0], b"no image"])


def test_card_says_what_the_version_is_made_of(folder):
    card = {"dimension": 6, "image_size": 32, "model_sha256": "ab" * 32, "scales": [1.0], "trained_on": []}
    card["precision"] = "float32"
    told = json.loads((folder / "1" / "descriptor.json").read_text())
    assert told["descriptor"] == card == ServedModel.load(folder / "1").card
    assert told["flags"] == {"checkpoint": "runs/a"} and told["seed"] == 5
    assert told["data"] == {"model": "ab" * 32, "records": "cd" * 32}
    assert told["protocol"] == {"image_size": 32} and "tensorflow" in told["versions"]
    served = tf.saved_model.load(str(folder / "1")).signatures["card"]()["card"].numpy()
    assert json.loads(served) == card


@pytest.mark.parametrize("moment", ["before the graph", "after the graph"])
def test_an_interrupted_write_leaves_no_version_and_no_rest(source, tmp_path, monkeypatch, moment):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    target, name = (tf.saved_model, "save") if moment == "before the graph" else (files, "write_json")
    monkeypatch.setattr(target, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_version(source, tmp_path / "model", {})
    assert list((tmp_path / "model").iterdir()) == []


def test_output_that_is_a_file_is_refused(source, tmp_path):
    (tmp_path / "model").write_text("")
    with pytest.raises(InputError, match=r"--output=.*model is a file; a folder for model versions is wanted"):
        write_version(source, tmp_path / "model", {})


@pytest.mark.parametrize("name", ["plain", "with space", "it's", "semi;colon $HOME"])
def test_serving_command_survives_the_shell_with_any_path(tmp_path, name):
    words = shlex.split(serving_command(tmp_path / name, "photos"))
    assert words[:2] == ["docker", "run"] and words[-1] == "tensorflow/serving"
    assert words[words.index("--mount") + 1] == f"type=bind,source={tmp_path / name},target=/models/photos"
    assert words[words.index("-e") + 1] == "MODEL_NAME=photos"


def test_serving_command_makes_relative_paths_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert f"source={tmp_path}/models/a," in serving_command("models/a")


@pytest.mark.parametrize("kind", ["absent", "empty", "a file"])
def test_a_folder_without_a_saved_model_is_refused(tmp_path, kind):
    path = tmp_path / "model"
    if kind == "empty":
        (path / "1").mkdir(parents=True)
    if kind == "a file":
        path.write_text("")
    with pytest.raises(InputError, match="model holds no SavedModel and no version folder with one"):
        ServedModel.load(path)


@pytest.mark.parametrize("damage", ["graph", "variables"])
def test_a_damaged_saved_model_is_refused_in_one_sentence(folder, tmp_path, damage):
    version = tmp_path / "1"
    (version / "variables").mkdir(parents=True)
    graph = (folder / "1" / "saved_model.pb").read_bytes()
    (version / "saved_model.pb").write_bytes(b"no graph" if damage == "graph" else graph)
    with pytest.raises(InputError, match="1 cannot be loaded as a SavedModel") as error:
        ServedModel.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_saved_model_with_other_signatures_is_refused(tmp_path):
    told = "has no signature serving_default from image_bytes to descriptors"
    for number, options in enumerate(({}, {"name": "other"}, {"signature": {}}), 1):
        with pytest.raises(InputError, match=told):
            ServedModel.load(saved_model(tmp_path / str(number), **options))


def test_a_saved_model_without_a_card_is_loaded_with_an_empty_one(tmp_path):
    module = tf.Module()
    spec = tf.TensorSpec([None], tf.string, name="image_bytes")
    call = tf.function(lambda image_bytes: {"descriptors": tf.ones([tf.size(image_bytes), 2])}, input_signature=[spec])
    module.call = call
    tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": call})
    assert ServedModel.load(tmp_path).card == {}


def test_a_run_is_exported_with_its_own_size_or_the_one_given(tmp_path):
    description = {"flags": {}, "seed": 3, "data": {}, "training": {"image_size": 40}}
    run = RunDirectory.create(tmp_path / "run", description, resume=False)
    models = {which: small_network(seed) for seed, which in enumerate(("best", "last"))}
    for which, model in models.items():
        model.save(run.model(which))
    for which, model in models.items():
        found = load_source(run.path, which)
        np.testing.assert_allclose(by_keras(found.model, 40), by_keras(model, 40), atol=1e-6)
        assert (found.image_size, found.dimension, found.training["seed"]) == (40, 6, 3)
        assert found.sha256 == files.sha256(run.model(which))
    assert load_source(run.path, image_size=96).image_size == 96
    bare = load_source(run.model("best"), image_size=64)
    assert (bare.image_size, bare.training) == (64, {})


def test_what_cannot_be_exported_is_refused_by_its_flag(tmp_path):
    small_network().save(tmp_path / "model.keras")
    with pytest.raises(InputError, match=r"model\.keras is a model without its run; --image_size is wanted"):
        load_source(tmp_path / "model.keras")
    with pytest.raises(InputError, match="--image_size=-1"):
        load_source(tmp_path / "model.keras", image_size=-1)
    with pytest.raises(InputError, match="is not a run directory"):
        load_source(tmp_path)
    with pytest.raises(InputError, match=r"absent\.keras is not a file"):
        load_source(tmp_path / "absent.keras", image_size=32)


def in_a_session(version, signature, **inputs):
    """Asks a version as TensorFlow Serving does."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        definition = tf.compat.v1.saved_model.load(session, ["serve"], str(version)).signature_def[signature]
        feeds = {definition.inputs[name].name: value for name, value in inputs.items()}
        return session.run({name: info.name for name, info in definition.outputs.items()}, feeds)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", pytest.param("int8", marks=pytest.mark.slow)])
def test_keras_saved_model_and_session_agree_in_each_precision(source, tmp_path, precision):
    settings = PrecisionSettings(precision)
    version = write_version(source, tmp_path / "model", {}, precision=settings)
    ways = {
        "keras": by_keras(source.model, 32),
        "saved model": ServedModel.load(version).describe(photos()),
        "session": in_a_session(version, "serving_default", image_bytes=photos())["descriptors"],
    }
    found = compare(ways)
    assert found.photos == 3 and found.min_cosine > settings.least_cosine
    np.testing.assert_allclose(ways["saved model"], ways["session"], atol=1e-6)
    card = json.loads((version / "descriptor.json").read_text())
    assert card["descriptor"]["precision"] == precision and card["precision_check"]["photos"] == 8
    assert card["precision_check"]["least_cosine"] == settings.least_cosine
    kinds = {node.op for node in in_graph(version)}
    assert not {name for name in kinds if name.startswith("_Fused") or "Mkl" in name}


def in_graph(version):
    (graph,) = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes()).meta_graphs
    yield from graph.graph_def.node
    for function in graph.graph_def.library.function:
        yield from function.node_def


def test_a_version_below_the_least_cosine_is_not_written(source, tmp_path):
    settings = PrecisionSettings("bfloat16", min_cosine=1.0)
    with pytest.raises(InputError, match=r"--precision=bfloat16: the cosine .*, below --min_cosine=1\.0; nothing was"):
        write_version(source, tmp_path / "model", {}, precision=settings)
    assert not (tmp_path / "model").exists()


def test_a_graph_that_cannot_answer_is_not_left_behind(source, tmp_path, monkeypatch):
    monkeypatch.setattr(package, "warmup_requests", lambda signatures, side: [broken_request()])
    with pytest.raises(tf.errors.InvalidArgumentError):
        write_version(source, tmp_path / "model", {})
    assert list((tmp_path / "model").iterdir()) == []


def broken_request():
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "serving_default"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([b"no image"]))
    return request


def test_objects_are_exported_in_float32_alone(guided_run, tmp_path):
    with pytest.raises(InputError, match="one that finds objects is exported in float32"):
        write_version(load_source(guided_run.path), tmp_path, {}, precision=PrecisionSettings("int8"))


def test_warm_up_requests_are_what_a_server_reads(folder):
    path = folder / "1" / "assets.extra" / "tf_serving_warmup_requests"
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    ]
    asked = [log.predict_log.request.model_spec.signature_name for log in logs]
    assert set(asked) == {"serving_default", "query"} and len(asked) == 10
    shapes = set()
    for log in logs:
        request = log.predict_log.request
        encoded = tf.make_ndarray(request.inputs["image_bytes"])
        sizes = [tf.image.decode_image(photo).shape for photo in encoded]
        shapes.update(tuple(size) for size in sizes)
        if "boxes" in request.inputs:
            for (left, top, right, bottom), size in zip(tf.make_ndarray(request.inputs["boxes"]), sizes, strict=True):
                assert 0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]
    with ServedSession(folder / "1") as session:
        assert len(package.answers(session, [log.predict_log.request for log in logs])) == 10
    assert len(shapes) == 8 and max(map(max, shapes)) > 32  # larger than the network sees: they are scaled down
    assert len({log.SerializeToString() for log in logs}) == 10


def test_the_card_tells_metrics_and_origin(source, tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"map": 0.25, "data": {"queries_model": source.sha256}}))
    card = json.loads((write_version(source, tmp_path / "model", {}, metrics=path) / "descriptor.json").read_text())
    assert card["metrics"]["map"] == 0.25 and card["weights"]["licence"].startswith("not known")
    with pytest.raises(InputError, match=r"--metrics=.* is of the model"):
        write_version(ExportSource(source.model, 32, "00" * 32, {}), tmp_path / "other", {}, metrics=path)


def test_the_card_file_has_the_name_that_loading_reads(folder):
    assert (folder / "2" / saving.CARD).is_file()


@pytest.mark.slow
def test_an_export_with_objects_tells_its_settings_classes_and_signatures(object_base, guided_run):
    told = json.loads((object_base / "1" / "descriptor.json").read_text())
    sha256 = files.sha256(guided_run.model("best"))
    objects = {"objects_most": 4, "objects_least_score": 0.55, "objects_overlap": 0.4}
    card = {"dimension": 16, "image_size": 48, "model_sha256": sha256, "scales": [1.0], "trained_on": []}
    card["precision"] = "float32"
    card["objects"] = {**objects, "classes": ["coin", "key", "stamp"]}
    assert told["descriptor"] == card == ServedModel.load(object_base).card
    assert told["seed"] == 7 and told["training"]["training"] == {"size": 48, "image_size": 0}
    signatures = told["signatures"]
    photos = {"dtype": "string", "shape": [None]}
    threshold = {"dtype": "float32", "shape": None}
    assert signatures["objects"]["inputs"] == {
        "image_bytes": photos,
        "least_score": {**threshold, "default": 0.55},
        "overlap": {**threshold, "default": 0.4},
    }
    assert signatures["objects"]["outputs"] == {
        "descriptors": {"dtype": "float32", "shape": [None, 16]},
        "object_descriptors": {"dtype": "float32", "shape": [None, 4, 16]},
        "boxes": {"dtype": "float32", "shape": [None, 4, 4]},
        "scores": {"dtype": "float32", "shape": [None, 4]},
        "classes": {"dtype": "int32", "shape": [None, 4]},
        "class_names": {"dtype": "string", "shape": [None, 4]},
        "count": {"dtype": "int32", "shape": [None]},
    }
    assert signatures["serving_default"]["inputs"] == {"image_bytes": photos}
    assert signatures["card"] == {"inputs": {}, "outputs": {"card": {"dtype": "string", "shape": []}}}


def test_a_loaded_version_finds_objects_by_its_own_thresholds_or_those_given(object_base):
    loaded = ServedModel.load(object_base)
    found, strict = loaded.describe_objects(photos()), loaded.describe_objects(photos(), least_score=1.0)
    assert found.count.max() > 0 and strict.count.tolist() == [0, 0, 0]
    again = loaded.describe_objects(photos(), least_score=[0.55, 1.0, 0.55], overlap=0.4)
    assert again.count.tolist() == [found.count[0], 0, found.count[2]]
    np.testing.assert_allclose(loaded.describe(photos()), found.descriptors, atol=1e-6)


def test_a_network_without_objects_has_no_such_signature(folder, source, tmp_path):
    loaded = ServedModel.load(folder / "1")
    assert not loaded.finds_objects
    with pytest.raises(InputError, match=r"1 has no signature objects; a run of pipelines\.train_objects makes one"):
        loaded.describe_objects(photos())
    with pytest.raises(InputError, match=r"--objects_\.\.\. was given and the network finds no objects"):
        write_version(source, tmp_path, {}, ObjectSettings(objects_most=3))
    assert not list(tmp_path.iterdir())
    assert "objects" not in json.loads((folder / "1" / "descriptor.json").read_text())["signatures"]


def test_a_bare_detector_and_classes_that_do_not_fit_are_refused(guided_run, tmp_path):
    model = guided_run.load_model()
    assert ExportSource(model, 48, "", {}).classes == ("class 0", "class 1", "class 2")
    with pytest.raises(InputError, match=r"run\.json names 1 classes and the network has 3"):
        ExportSource(model, 48, "", {"classes": ["coin"]})
    with pytest.raises(InputError, match="'detector' gives 2 outputs instead of one descriptor"):
        ExportSource(model.detector, 48, "", {})


def test_a_card_tells_the_scales_and_what_the_network_was_trained_on():
    network = add_scales(small_network(), (1.0, 0.5))
    told = ExportSource(network, 32, "ab" * 32, {"records": "rSfM120k"}).card
    assert (told["scales"], told["trained_on"]) == ([1.0, 0.5], ["rSfM120k"])
    imported = {"records": None, "imported": {"format": "cvnet"}, "flags": {"checkpoint": "weights/CVNet_R50.pyth"}}
    told = ExportSource(network, 32, "ab" * 32, imported).card
    assert told["trained_on"] == ["CVNet_R50.pyth", "google-landmarks-v2-clean"]
    pixels = keras.Input((None, None, 3))
    nested = keras.Model(pixels, network(pixels))
    assert ExportSource(nested, 32, "", {}).card["scales"] == [1.0, 0.5]
