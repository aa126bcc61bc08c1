import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tfretrieval.backbones import BACKBONES, batch_norms, build_backbone, hub
from tfretrieval.errors import InputError
from tfretrieval.layers.input_scaling import scale_pixels
from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor

ROOT = Path(__file__).resolve().parents[3]
TINY = ["vit", "dinov2_registers", "dinov3", "siglip", pytest.param("swin", marks=pytest.mark.slow), "resnet"]
QUICK = ("resnet18_v1_5", "vit_base_patch16", "dinov2_small")
HUB = [name if name in QUICK else pytest.param(name, marks=pytest.mark.exhaustive) for name in hub.HUB]
PHOTOS = np.random.default_rng(0).normal(size=(2, 40, 56, 3)).astype(np.float32)


def finished(network, name):
    return BACKBONES[name].finish(network)


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 400
    return text


@pytest.mark.parametrize("name", TINY)
def test_a_preset_directory_gives_its_networks_maps(name, make_network, tiny, tmp_path):
    network, backbone = make_network(name), tiny(name)
    network.save_to_preset(tmp_path / "preset")
    expected = finished(network, backbone)(PHOTOS, training=False)
    found = build_backbone(backbone, str(tmp_path / "preset"))(PHOTOS, training=False)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", TINY)
def test_weights_files_of_kerashubs_network_and_of_the_backbone_are_both_loaded(name, make_network, tiny, tmp_path):
    network, backbone = make_network(name), tiny(name)
    model = finished(network, backbone)
    network.save_weights(tmp_path / "theirs.weights.h5")
    model.save_weights(tmp_path / "ours.weights.h5")
    expected = model(PHOTOS, training=False)
    for path in tmp_path.glob("*.weights.h5"):
        np.testing.assert_array_equal(build_backbone(backbone, str(path))(PHOTOS, training=False), expected)


def test_weights_of_another_shape_are_refused(make_network, tiny, tmp_path):
    make_network("dinov3", hidden_dim=24).save_weights(tmp_path / "wide.weights.h5")
    with pytest.raises(InputError, match=r"--weights=.*wide.* does not fit --backbone=tiny_dinov3") as error:
        build_backbone(tiny("dinov3"), str(tmp_path / "wide.weights.h5"))
    one_sentence(error)


def test_of_a_two_tower_preset_the_vision_tower_is_taken(make_network, tiny, tmp_path):
    import keras_hub

    vision, backbone = make_network("siglip"), tiny("siglip")
    text = keras_hub.models.SigLIPTextEncoder(
        vocabulary_size=20, embedding_dim=16, hidden_dim=16, num_layers=1, num_heads=2, intermediate_dim=16
    )
    keras_hub.models.SigLIPBackbone(vision, text).save_to_preset(tmp_path / "towers")
    found = build_backbone(backbone, str(tmp_path / "towers"))(PHOTOS, training=False)
    np.testing.assert_array_equal(found, finished(vision, backbone)(PHOTOS, training=False))


def test_a_preset_for_photos_of_another_size_fits(make_network, tiny, tmp_path):
    network, backbone = make_network("vit", image_shape=(64, 64, 3)), tiny("vit")
    network.save_to_preset(tmp_path / "preset")
    found = build_backbone(backbone, str(tmp_path / "preset"))(PHOTOS, training=False)
    np.testing.assert_array_equal(found, finished(network, backbone)(PHOTOS, training=False))


@pytest.mark.parametrize(
    ("saved", "changes", "reason"),
    [
        ("vit", {"num_layers": 1}, "made with num_layers=1 and num_layers=2 is wanted"),
        ("vit", {"patch_size": (16, 16)}, "patch_size"),
        ("dinov3", {}, "is a DINOV3Backbone and a ViTBackbone is wanted"),
    ],
)
def test_a_preset_of_another_network_is_refused(saved, changes, reason, make_network, tiny, tmp_path):
    make_network(saved, **changes).save_to_preset(tmp_path / "preset")
    with pytest.raises(InputError, match=r"--backbone=tiny_vit --weights=.*preset could not be made") as error:
        build_backbone(tiny("vit"), str(tmp_path / "preset"))
    assert reason in one_sentence(error)


@pytest.mark.parametrize("mode", ["torch", "tf"])
def test_a_presets_own_scaling_of_pixels_is_heeded(mode, make_network, tiny, tmp_path):
    import keras_hub

    scale, offset = (0.01, 0.02, 0.03), (-1.0, 0.5, 0.25)
    network, backbone = make_network("dinov3"), tiny("dinov3", scaling=mode)
    network.save_to_preset(tmp_path)
    keras_hub.layers.DINOV3ImageConverter(image_size=(48, 48), scale=scale, offset=offset).save_to_preset(tmp_path)
    photos = np.random.default_rng(1).integers(0, 256, (2, 40, 56, 3)).astype(np.float32)
    expected = finished(network, backbone)(photos * np.float32(scale) + np.float32(offset), training=False)
    model = build_backbone(backbone, str(tmp_path))
    np.testing.assert_allclose(model(scale_pixels(photos, mode), training=False), expected, atol=1e-4)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(scale_pixels(photos, mode), training=False), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("mode", "scale", "offset"),
    [
        ("tf", 1 / 127.5, -1.0),
        ("tf", [0.00784313725490196] * 3, [-1.0] * 3),
        ("torch", [0.01712475, 0.017507, 0.01742919], [-2.11790393, -2.03571429, -1.80444444]),
    ],
)
def test_a_preset_that_scales_as_the_entry_says_adds_nothing(mode, scale, offset, tmp_path):
    (tmp_path / "image_converter.json").write_text(json.dumps({"config": {"scale": scale, "offset": offset}}))
    assert hub.preset_correction(str(tmp_path), mode) is None
    other = {"tf": "torch", "torch": "tf"}[mode]
    assert hub.preset_correction(str(tmp_path), other) is not None


def test_a_convolutional_preset_of_another_scaling_is_refused(make_network, tiny, tmp_path):
    import keras_hub

    make_network("resnet").save_to_preset(tmp_path)
    keras_hub.layers.ResNetImageConverter(scale=0.5, offset=0.0).save_to_preset(tmp_path)
    with pytest.raises(InputError, match="pixels are scaled in another way") as error:
        build_backbone(tiny("resnet", stages=("a", "b", "c", "d")), str(tmp_path))
    one_sentence(error)


def test_momentum_from_random_weights_is_that_of_training_from_nothing():
    layers = batch_norms(build_backbone("resnet18_v1_5"))
    assert len(layers) == 20 and {layer.momentum for layer in layers} == {0.9}


@pytest.mark.parametrize("weights", ["imagenet", "preset", "resnet_18_imagenet", "kaggle://keras/none/keras/none"])
def test_a_failed_download_is_one_sentence(weights, monkeypatch):
    import kagglehub

    def refuse(*args, **kwargs):
        raise ConnectionError("no route to host\nand a long story")

    monkeypatch.setattr(kagglehub, "model_download", refuse)
    with pytest.raises(InputError, match=rf"--backbone=resnet18_v1_5 --weights={weights} .*no route to host") as error:
        build_backbone("resnet18_v1_5", weights)
    one_sentence(error)


def test_weights_that_are_nothing_are_named():
    with pytest.raises(InputError, match=r"--weights=resnet_18 .* neither a directory, .* resnet_18_imagenet"):
        build_backbone("resnet18_v1_5", "resnet_18")
    with pytest.raises(InputError, match=r"--weights=gone\.weights\.h5 is not a file"):
        build_backbone("resnet18_v1_5", "gone.weights.h5")
    with pytest.raises(InputError, match=r"--weights=vit_base_patch16_224_imagenet is not a file"):
        build_backbone("resnet50", "vit_base_patch16_224_imagenet")
    with pytest.raises(InputError, match="resnet34_v1_5 has no published weights"):
        build_backbone("resnet34_v1_5", "imagenet")


@pytest.mark.parametrize("name", list(hub.HUB))
def test_published_weights_are_presets_of_the_entrys_class(name):
    import keras_hub

    entry = BACKBONES[name]
    wanted = getattr(keras_hub.models, entry.source.removeprefix("keras_hub.models."))
    wanted = keras_hub.models.SigLIPBackbone if name.startswith("siglip") else wanted
    assert entry.published in wanted.presets or (name == "resnet34_v1_5" and entry.published is None)


@pytest.mark.parametrize("name", HUB)
def test_the_architecture_has_as_many_parameters_as_kerashub_says(name):
    """KerasHub counts a classifier of 1,000 classes for ResNet-D and EfficientNet, and rounds DINOv3 to millions."""
    import keras_hub

    entry = BACKBONES[name]
    with keras.StatelessScope(initialize_variables=False):
        network = entry.make(None)
    width, counted = network.output.shape[-1], network.count_params()
    if entry.published is None or name.startswith("siglip"):
        pytest.skip("KerasHub tells no number, or that of both towers")
    told = keras_hub.models.Backbone.presets[entry.published]["metadata"]["params"]
    if name.endswith("_vd") or name == "efficientnet_lite0":
        told -= (width + 1) * 1000
    if name == "efficientnet_lite0":  # which counts no statistics of BatchNorm
        counted -= sum(2 * layer.gamma.shape[0] for layer in batch_norms(network))
    assert abs(counted - told) <= (0.02 * told if name.startswith("dinov3") else 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dinov3", "swin", "resnet"])
def test_a_saved_descriptor_is_loaded_by_another_process_without_custom_objects(name, tiny, tmp_path):
    network = build_descriptor(DescriptorConfig(backbone=tiny(name)))
    photos = np.random.default_rng(2).integers(0, 256, (2, 40, 56, 3)).astype(np.uint8)
    network.save(tmp_path / "network.keras")
    np.save(tmp_path / "photos.npy", photos)
    code = (
        "import sys, numpy as np; from tfretrieval.models.descriptor import load_descriptor\n"
        "assert 'keras_hub' not in sys.modules\n"
        "network = load_descriptor(sys.argv[1] + '/network.keras')\n"
        "np.save(sys.argv[1] + '/found.npy', network(np.load(sys.argv[1] + '/photos.npy'), training=False))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), network(photos, training=False), atol=1e-5)
