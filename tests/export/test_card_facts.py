"""What a card tells besides the descriptor: the weights' origin, and the figures of an evaluation."""

import json

import pytest

from export.protocol_figures import figures_of
from export.weights_origin import weights_origin
from tfretrieval import files
from tfretrieval.errors import InputError


def run_of(backbone, weights, sha256=None):
    return {"descriptor": {"backbone": backbone, "weights": weights}, "data": {"weights": sha256}}


@pytest.mark.parametrize(
    ("training", "begun", "licence"),
    [
        ({}, "not known: the model came without its run", "not known to this toolkit"),
        (run_of("resnet50", None), "random weights", "none: nothing came from outside"),
        (
            run_of("resnet50", "imagenet"),
            "ImageNet weights of keras.applications.ResNet50",
            "MIT, as released by Kaiming",
        ),
        (run_of("vgg16", "imagenet"), "ImageNet weights of keras.applications.VGG16", "Creative Commons Attribution"),
        (
            run_of("resnet50_v2", "imagenet"),
            "ImageNet weights of keras.applications.ResNet50V2",
            "published with Keras",
        ),
        (
            run_of("mobilenet_v2_1.0", "imagenet"),
            "ImageNet weights of keras.applications.MobileNetV2",
            "published with",
        ),
        (run_of("resnet50_v1_5", "imagenet"), "of KerasHub (resnet50_v1_5)", "not known to this toolkit"),
        (run_of("resnet50", "weights.h5"), "weights.h5 (resnet50)", "not known to this toolkit"),
        ({"imported": {"format": "cvnet"}}, "an imported checkpoint of the format cvnet", "not known to this toolkit"),
    ],
)
def test_the_origin_of_weights_is_told_as_far_as_it_is_known(training, begun, licence):
    told = weights_origin(training)
    assert begun in told["from"] and licence in told["licence"]
    assert bool(told["trained_on"]) == told["from"].startswith("ImageNet")


def test_the_hash_of_a_weights_file_is_told():
    assert weights_origin(run_of("resnet50", "weights.h5", "cd" * 32))["sha256"] == "cd" * 32


RESULT = {
    "flags": {"queries": "a"},
    "data": {"benchmark": "ef" * 32, "queries_model": "ab" * 32, "database_model": "ab" * 32},
    "protocol": {"benchmark": "roxford5k"},
    "map": 0.5,
    "recall_at_1": 0.7,
    "queries": 70,
    "protocols": {"medium": {"map": 0.5}},
    "per_query": [{"id": "a"}],
}


def test_a_card_tells_the_figures_and_not_every_query(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(RESULT))
    told = figures_of(path, "ab" * 32)
    assert (told["map"], told["recall_at_1"], told["benchmark"]) == (0.5, 0.7, "ef" * 32)
    assert told["protocols"] == RESULT["protocols"] and told["sha256"] == files.sha256(path)
    assert "per_query" not in told and "flags" not in told


def test_figures_of_another_model_or_of_nothing_are_refused(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(RESULT))
    with pytest.raises(InputError, match=r"--metrics=.*metrics\.json is of the model abababababab\.\.\. and 00"):
        figures_of(path, "00" * 32)
    path.write_text('{"map": 0.5}')
    with pytest.raises(InputError, match=r"has no mAP and data; a metrics\.json of pipelines.evaluate is wanted"):
        figures_of(path, "ab" * 32)
    with pytest.raises(InputError, match=r"is missing; the metrics\.json of an evaluation is wanted"):
        figures_of(tmp_path / "absent.json", "ab" * 32)
