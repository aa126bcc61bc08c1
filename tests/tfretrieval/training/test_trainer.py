import json

import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.data.augmentation import Augmentation
from tfretrieval.errors import InputError
from tfretrieval.models.descriptor import DescriptorConfig, load_descriptor
from tfretrieval.training.config import TrainingConfig
from tfretrieval.training.run_directory import RunDirectory
from tfretrieval.training.train import train
from tfretrieval.training.trainer import Trainer

NETWORK = DescriptorConfig(backbone="small_resnet")
BALANCED = {
    "loss": "supervised_contrastive+norm_softmax",
    "loss_weights": "0.5+1",
    "instances": 3,
    "photos": 2,
    "steps": 5,
    "average": 0.9,
}
TUPLES = {"loss": "contrastive", "tuples": 2, "negatives": 2, "initial_share": 0.25}
STAGED = {**TUPLES, "minings": 3, "chunk": 3, "sizes": "24,32", "clip_norm": 0.1, "train_statistics": False}
WHOLE = {**BALANCED, "whole_photos": True, "precision": "bfloat16", "train_statistics": False}
COMMON = {
    "image_size": 32,
    "epochs": 2,
    "validation_share": 0.34,
    "checkpoint_steps": 2,
    "learning_rate": 1e-3,
    "warmup": 2,
}
VARIED = Augmentation(rotation=10.0, hue=0.1, erasing=0.5)


class InterruptedRunError(Exception):
    pass


def fit(records, output, settings, resume=False):
    config = TrainingConfig(**{**COMMON, **settings})
    return train(records, output, NETWORK, config, VARIED, {"loss": config.loss}, resume)


def weights(run, which):
    return [weight.numpy() for weight in load_descriptor(run.model(which)).weights]


def steps_until(monkeypatch, limit):
    """Lets a training do `limit` more steps, then breaks it off in the middle of the next."""
    original, done = Trainer._check_finite, [0]

    def counting(self, loss, number):
        done[0] += 1
        if done[0] > limit:
            raise InterruptedRunError
        original(self, loss, number)

    monkeypatch.setattr(Trainer, "_check_finite", counting)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(TUPLES, id="tuples"),
        pytest.param(BALANCED, id="balanced", marks=pytest.mark.slow),
        pytest.param(STAGED, id="staged", marks=pytest.mark.slow),
        pytest.param(WHOLE, id="whole", marks=pytest.mark.slow),
    ],
)
def test_interrupted_training_resumes_to_the_same_weights(training_set, tmp_path, monkeypatch, settings):
    whole, history = fit(training_set, tmp_path / "whole", settings)
    total = 2 * _steps_per_epoch(whole)
    for stop in (1, total // 2 + 1):
        with monkeypatch.context() as patch:
            steps_until(patch, stop)
            with pytest.raises(InterruptedRunError):
                fit(training_set, tmp_path / "broken", settings, resume=stop != 1)
    resumed, resumed_history = fit(training_set, tmp_path / "broken", settings, resume=True)
    for which in ("untrained", "best", "last"):
        for first, second in zip(weights(whole, which), weights(resumed, which), strict=True):
            np.testing.assert_array_equal(first, second)
    assert resumed_history == history == json.loads(resumed.history.read_text())


def _steps_per_epoch(run):
    newest = max(run.checkpoints.glob("epoch-*"))
    with np.load(newest / "variables.npz") as stored:
        counts = [
            int(stored[name]) for name in stored.files if stored[name].shape == () and stored[name].dtype == np.int64
        ]
    return max(counts) // 2


@pytest.mark.slow
def test_a_batch_in_chunks_moves_the_weights_as_the_whole_batch_does(training_set, tmp_path):
    plain = {**BALANCED, "train_statistics": False, "clip_norm": 0.5}
    whole, history = fit(training_set, tmp_path / "whole", plain)
    chunked, chunked_history = fit(training_set, tmp_path / "chunked", {**plain, "chunk": 4})
    assert chunked_history[-1]["loss"] == pytest.approx(history[-1]["loss"], rel=1e-4)
    for first, second in zip(weights(whole, "last"), weights(chunked, "last"), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5, rtol=1e-4)


def test_whole_photos_go_through_the_network_in_their_own_shapes(training_set, tmp_path, monkeypatch):
    shapes = set()
    original = Trainer._one_step

    def watching(self, number, photos, labels):
        shapes.update(tuple(photo.to_tensor().shape) for photo in photos)
        return original(self, number, photos, labels)

    monkeypatch.setattr(Trainer, "_one_step", watching)
    fit(training_set, tmp_path / "run", {**BALANCED, "whole_photos": True, "train_statistics": False, "epochs": 1})
    assert shapes == {(24, 32, 3), (32, 24, 3), (32, 32, 3), (20, 32, 3)}


def test_bfloat16_trains_and_saves_a_network_of_float32(training_set, tmp_path):
    run, history = fit(training_set, tmp_path / "run", {**BALANCED, "precision": "bfloat16"})
    _, exact_history = fit(training_set, tmp_path / "exact", BALANCED)
    assert history[-1]["loss"] == pytest.approx(exact_history[-1]["loss"], rel=0.05) and history != exact_history
    model = load_descriptor(run.model("last"))
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert {layer.compute_dtype for layer in model._flatten_layers() if layer.weights} == {"float32"}


def test_training_changes_the_network_and_lowers_the_loss(training_set, tmp_path):
    settings = {**BALANCED, "epochs": 8, "warmup": 0, "learning_rate": 3e-3, "average": 0.0, "checkpoint_steps": 100}
    run, history = fit(training_set, tmp_path / "run", settings)
    assert history[-1]["loss"] < history[0]["loss"]
    assert [entry["epoch"] for entry in history] == list(range(1, 9))
    assert any((a != b).any() for a, b in zip(weights(run, "untrained"), weights(run, "last"), strict=True))


def test_best_network_is_the_one_of_the_best_validation(training_set, tmp_path):
    run, history = fit(training_set, tmp_path / "run", {**BALANCED, "epochs": 3})
    scores = [entry["validation_map"] for entry in history]
    assert all(0 <= score <= 1 for score in scores)
    if max(scores) > scores[-1]:
        assert any((a != b).any() for a, b in zip(weights(run, "best"), weights(run, "last"), strict=True))


def test_without_validation_the_best_network_is_the_last(training_set, tmp_path):
    run, history = fit(training_set, tmp_path / "run", {**BALANCED, "validation_share": 0.0})
    assert history[0]["validation_map"] is None
    for first, second in zip(weights(run, "best"), weights(run, "last"), strict=True):
        np.testing.assert_array_equal(first, second)


def test_frozen_statistics_stay_while_scale_and_shift_learn(training_set, tmp_path):
    run, _ = fit(training_set, tmp_path / "run", {**BALANCED, "train_statistics": False, "average": 0.0})
    before, after = (load_descriptor(run.model(which)) for which in ("untrained", "last"))
    changed = {"moving_mean": 0, "moving_variance": 0, "gamma": 0, "beta": 0}
    for first, second in zip(before.weights, after.weights, strict=True):
        if first.name in changed:
            changed[first.name] += int((first.numpy() != second.numpy()).any())
    assert changed["moving_mean"] == changed["moving_variance"] == 0
    assert changed["gamma"] > 0
    assert changed["beta"] > 0


def test_tensorboard_holds_curves_and_pictures(training_set, tmp_path):
    run, _ = fit(training_set, tmp_path / "run", TUPLES)
    tags = set()
    for path in run.tensorboard.glob("events*"):
        for raw in tf.data.TFRecordDataset(str(path)):
            tags |= {value.tag for value in tf.compat.v1.Event.FromString(raw.numpy()).summary.value}
    assert {
        "loss",
        "learning_rate",
        "p/pooling/p",
        "validation_map",
        "hardest tuples",
        "worst validation queries",
    } <= tags


def test_resume_with_other_flags_names_the_flag(training_set, tmp_path):
    fit(training_set, tmp_path / "run", {**BALANCED, "epochs": 1})
    with pytest.raises(InputError, match=r"--loss=supervised_contrastive\+norm_softmax.*contrastive"):
        fit(training_set, tmp_path / "run", {**TUPLES, "epochs": 1}, resume=True)


def test_a_second_training_does_not_overwrite_a_run(training_set, tmp_path):
    fit(training_set, tmp_path / "run", {**BALANCED, "epochs": 1})
    with pytest.raises(InputError, match="--resume"):
        fit(training_set, tmp_path / "run", {**BALANCED, "epochs": 1})


def test_a_loss_that_is_not_finite_ends_in_a_sentence(training_set, tmp_path):
    with pytest.raises(InputError, match=r"the loss became .* at step \d+; lower --learning_rate"):
        fit(training_set, tmp_path / "run", {**BALANCED, "learning_rate": 1e30, "warmup": 0, "epochs": 20})


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"decay_kind": "coupled", "weight_decay": 0.1}, {"optimizer": "sgd"}])
def test_decay_and_optimiser_change_what_is_learnt(training_set, tmp_path, capsys, settings):
    plain, _ = fit(training_set, tmp_path / "plain", {**BALANCED, "epochs": 1})
    other, _ = fit(training_set, tmp_path / "other", {**BALANCED, "epochs": 1, **settings})
    assert any((a != b).any() for a, b in zip(weights(plain, "last"), weights(other, "last"), strict=True))
    told = capsys.readouterr().out.splitlines()
    assert "    p: 1 variable of 1 parameter, learning rate x 10, no weight decay" in told
    roles = [line.split(":")[0].strip() for line in told if "learning rate x" in line]
    assert roles == ["network", "p", "loss"] * 2
    assert settings.items() <= RunDirectory.load(other.path).read_description()["training"].items()


def test_run_directory_tells_what_made_it(training_set, tmp_path):
    run, _ = fit(training_set, tmp_path / "run", {**BALANCED, "epochs": 1})
    told = RunDirectory.load(run.path).read_description()
    assert told["data"] == {"records": training_set.sha256}
    assert told["training"]["train_statistics"] is True
    assert told["seed"] == 0
    assert "--loss=supervised_contrastive+norm_softmax" in (run.path / "flags.txt").read_text().splitlines()
