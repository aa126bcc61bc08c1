import numpy as np
import pytest

from export import describing, parity, saving
from export.client import DescriptorClient
from export.object_signature import ObjectSettings
from export.server import LocalServer
from tfretrieval import console
from tfretrieval.data.augmentation import Augmentation
from tfretrieval.errors import InputError
from tfretrieval.models.descriptor import DescriptorConfig
from tfretrieval.training.config import TrainingConfig
from tfretrieval.training.derived_runs import write_averaged_run, write_multi_scale_run, write_whitened_run
from tfretrieval.training.train import train
from tfretrieval.whitening import fit_discriminative


def bar(total):
    return console.progress(None, "describing", total)


@pytest.fixture(scope="module")
def model(tiny_run, tmp_path_factory):
    output = tmp_path_factory.mktemp("models") / "descriptor"
    saving.write_version(saving.load_source(tiny_run.path), output, {})
    return output


def test_server_savedmodel_and_network_give_the_same_descriptors_and_tell_the_same_model(tiny_run, model, record_set):
    split = record_set.split("database")
    found = {
        "network": describing.from_model(tiny_run.path),
        "SavedModel": describing.from_model(model, batch_photos=5),
    }
    with (
        LocalServer("descriptor", model) as server,
        DescriptorClient(server.grpc_address, max_batch_photos=4) as client,
    ):
        found["server"] = describing.from_server(client)
        extracted = {way: describer.extract(split, bar, {"seed": None}) for way, describer in found.items()}
    agreement = parity.compare({way: descriptors.vectors for way, descriptors in extracted.items()})
    assert agreement.min_cosine >= 0.9999
    assert agreement.photos == len(split)
    assert len({descriptors.meta["model_sha256"] for descriptors in extracted.values()}) == 1
    assert {descriptors.meta["image_size"] for descriptors in extracted.values()} == {48}
    assert all(descriptors.ids == split.ids for descriptors in extracted.values())


@pytest.mark.slow
def test_server_savedmodel_and_network_find_and_describe_the_same_objects(guided_run, object_base, record_set):
    split = record_set.split("database")
    settings = ObjectSettings(objects_most=4, objects_least_score=0.55, objects_overlap=0.4)  # of `object_base`
    ways = {
        "network": describing.from_model(guided_run.path, batch_photos=3, objects=settings),
        "SavedModel": describing.from_model(object_base, batch_photos=5),
    }
    with (
        LocalServer("descriptor", object_base) as server,
        DescriptorClient(server.grpc_address, max_batch_photos=4) as client,
    ):
        ways["server"] = describing.from_server(client)
        found = {way: describer.describe_objects(split, bar) for way, describer in ways.items()}
        whole = {way: describer.describe(split, bar) for way, describer in ways.items()}
    agreement = parity.compare_objects(found)
    assert agreement.photos == len(split) and agreement.objects > len(split) and agreement.unlike == 0
    assert agreement.min_cosine >= 0.99999 and agreement.whole.min_cosine >= 0.99999
    assert agreement.max_box < 1e-2 and agreement.max_score < 1e-4
    assert len({tuple(names) for arrays in found.values() for names in arrays.class_names.tolist()}) > 1
    np.testing.assert_array_equal(found["network"].class_names, found["server"].class_names)
    assert parity.compare({**whole, "objects": found["server"].descriptors}).min_cosine >= 0.99999
    assert len({describer.card["model_sha256"] for describer in ways.values()}) == 1


@pytest.mark.slow
def test_a_photo_whose_objects_the_model_or_server_refuses_is_named(object_base, record_set, monkeypatch):
    split = record_set.split("database")
    encoded = list(describing.encoded_photos(split))
    encoded[7] = b"no image"
    monkeypatch.setattr(describing, "encoded_photos", lambda *_: iter(encoded))
    with pytest.raises(InputError, match=rf"a photo from {split.ids[5]!r} on was refused by the model: image_bytes"):
        describing.from_model(object_base, batch_photos=5).describe_objects(split, bar)
    with (
        LocalServer("descriptor", object_base) as server,
        DescriptorClient(server.grpc_address, max_batch_photos=4) as client,
        pytest.raises(InputError, match=rf"refused {split.ids[7]!r}: INVALID_ARGUMENT: image_bytes\[7\]: not an image"),
    ):
        describing.from_server(client).describe_objects(split, bar)


def test_a_network_without_objects_describes_none(tiny_run, model):
    assert describing.from_model(tiny_run.path).describe_objects is None
    assert describing.from_model(model).describe_objects is None


def test_the_untrained_network_differs_from_the_trained_one(tiny_run, record_set):
    split = record_set.split("queries")
    trained, untrained = (
        describing.from_model(tiny_run.path, which=which).describe(split, bar) for which in ("best", "untrained")
    )
    assert np.abs(trained - untrained).max() > 1e-4


def test_a_photo_that_the_model_refuses_is_told_with_its_place_and_the_reason(model, record_set, monkeypatch):
    split = record_set.split("database")
    encoded = list(describing.encoded_photos(split))
    encoded[7] = b"no image"
    monkeypatch.setattr(describing, "encoded_photos", lambda *_: iter(encoded))
    with pytest.raises(InputError) as error:
        describing.from_model(model, batch_photos=5).describe(split, bar)
    told = str(error.value)
    assert told.startswith(f"a photo from {split.ids[5]!r} on was refused by the model: ")
    assert told.endswith("image_bytes[2]: not an image; one of JPEG, PNG, GIF, BMP, WebP is wanted")
    assert "Graph execution error" not in told and "\n" not in told


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no SavedModel"):
        describing.from_model(tmp_path)


def test_a_server_that_is_not_there_is_named():
    with (
        DescriptorClient("127.0.0.1:1", timeout=0.5) as client,
        pytest.raises(InputError, match=r"--server=127\.0\.0\.1:1 does not answer"),
    ):
        describing.from_server(client)


@pytest.mark.slow
def test_a_run_of_several_scales_and_a_whitening_exports_as_any_other(tiny_run, training_set, tmp_path):
    scaled = write_multi_scale_run(tiny_run, "best", (1.0, 0.7071), None, 56, tmp_path / "scales", {})
    samples = describing.from_model(scaled.path).extract(training_set.split(), bar, {})
    labels = training_set.split().labels
    whitened = write_whitened_run(
        scaled, "best", samples, fit_discriminative(samples.vectors, labels, 6), tmp_path / "w", {}
    )
    saving.write_version(saving.load_source(whitened.path), tmp_path / "model", {})
    ways = {
        way: describing.from_model(path) for way, path in (("run", whitened.path), ("SavedModel", tmp_path / "model"))
    }
    assert {describer.card["image_size"] for describer in ways.values()} == {56}
    found = {way: describer.describe(training_set.split(), bar) for way, describer in ways.items()}
    assert found["run"].shape == (30, 6)
    assert parity.compare(found).min_cosine >= 0.9999
    with pytest.raises(InputError, match="made by the network"):
        write_whitened_run(
            tiny_run, "best", samples, fit_discriminative(samples.vectors, labels), tmp_path / "other", {}
        )


def test_the_mean_of_two_runs_is_the_mean_of_their_weights(tiny_run, training_set, tmp_path):
    config = TrainingConfig(
        loss="supervised_contrastive",
        instances=3,
        photos=2,
        steps=2,
        epochs=1,
        image_size=48,
        validation_share=0.0,
        seed=1,
    )
    other = train(
        training_set, tmp_path / "other", DescriptorConfig(backbone="small_resnet"), config, Augmentation(), {}
    )[0]
    mean = write_averaged_run([tiny_run, other], "best", tmp_path / "mean", {})
    for first, second, found in zip(
        *(each.load_model().get_weights() for each in (tiny_run, other, mean)), strict=True
    ):
        np.testing.assert_allclose(found, (first.astype(np.float64) + second) / 2, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="two or more"):
        write_averaged_run([tiny_run], "best", tmp_path / "one", {})
    wide = write_multi_scale_run(tiny_run, "best", (1.0,), None, 64, tmp_path / "wide", {})
    with pytest.raises(InputError, match="image_size 64"):
        write_averaged_run([tiny_run, wide], "best", tmp_path / "mixed", {})
