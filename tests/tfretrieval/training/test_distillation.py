import json

import keras
import numpy as np
import pytest

from tfretrieval.data.augmentation import NO_AUGMENTATION, Augmentation
from tfretrieval.data.sources import SourceOptions, read_folder
from tfretrieval.data.write_records import WriteOptions, write_record_set
from tfretrieval.descriptors import Descriptors
from tfretrieval.errors import InputError
from tfretrieval.extraction import Extractor
from tfretrieval.models.descriptor import DescriptorConfig, load_descriptor
from tfretrieval.training.config import TrainingConfig
from tfretrieval.training.distillation import DistillationConfig
from tfretrieval.training.instances import divide
from tfretrieval.training.plans import Plans
from tfretrieval.training.run_directory import RunDirectory
from tfretrieval.training.train import train
from tfretrieval.training.trainer import Trainer

STUDENT = DescriptorConfig(backbone="small_resnet")
COMMON = {
    "loss": "none",
    "sampler": "shuffled",
    "instances": 3,
    "photos": 2,
    "image_size": 32,
    "epochs": 2,
    "steps": 5,
    "validation_share": 0.34,
    "checkpoint_steps": 2,
    "learning_rate": 1e-3,
    "warmup": 0,
}
WITH_LABELS = {"loss": "supervised_contrastive+norm_softmax", "sampler": "balanced", "average": 0.9}
TUPLES = {"loss": "contrastive", "sampler": "balanced", "tuples": 2, "negatives": 2, "queries": 8, "chunk": 3}
FROZEN = {"train_statistics": False}


class InterruptedRunError(Exception):
    pass


def fit(records, output, teacher, settings=None, student=STUDENT, views=None, resume=False, **distillation):
    config = TrainingConfig(**{**COMMON, **(settings or {})})
    views = views or Augmentation(rotation=10.0, hue=0.1)
    learned = DistillationConfig(str(teacher), **distillation)
    return train(records, output, student, config, views, {"teacher": str(teacher)}, resume, distillation=learned)


def weights(run, which="last"):
    return [weight.numpy() for weight in load_descriptor(run.model(which)).weights]


def assert_equal(one, other, which="last"):
    for first, second in zip(weights(one, which), weights(other, which), strict=True):
        np.testing.assert_array_equal(first, second)


def break_off(monkeypatch, after):
    original, done = Trainer._check_finite, []

    def counting(self, loss, number):
        done.append(number)
        if len(done) > after:
            raise InterruptedRunError
        original(self, loss, number)

    monkeypatch.setattr(Trainer, "_check_finite", counting)


@pytest.fixture(scope="module")
def saved(training_set, tmp_path_factory):
    """Descriptors of 128 dimensions, near each other for photos of one instance, of all photos but four."""
    split = training_set.split("train")
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(split.labels.max() + 1, 128))
    vectors = (centres[split.labels] + 0.3 * rng.normal(size=(len(split), 128))).astype(np.float32)
    path = tmp_path_factory.mktemp("saved") / "vectors"
    Descriptors(vectors[4:], split.ids[4:], {}).save(path)
    return path


def dimension_of(run):
    return int(run.load_model().output_shape[-1])


def test_the_student_comes_to_say_what_the_teacher_says(training_set, tiny_run, tmp_path):
    settings = {"steps": 18, "epochs": 2, "instances": 5, "photos": 3, "image_size": 48, "learning_rate": 3e-3}
    run, history = fit(training_set, tmp_path / "run", tiny_run.path, settings, views=NO_AUGMENTATION)
    split = training_set.split("train")
    teacher = Extractor(tiny_run.load_model(), 48)(split)
    cosines = {
        which: (Extractor(run.load_model(which), 48)(split) * teacher).sum(axis=1).mean()
        for which in ("untrained", "last")
    }
    assert history[-1]["loss"] < history[0]["loss"]
    # The student's own initial weights are the teacher's, near enough: what is asked is most of the way that is left.
    assert 1 - cosines["last"] < 0.5 * (1 - cosines["untrained"])
    told = run.read_description()
    assert told["data"]["teacher"] and told["distillation"]["teacher"].endswith("best.keras")
    assert told["distillation"]["dimension"] == dimension_of(tiny_run) and told["distillation"]["image_size"] == 48


LEARNED = {
    "alone": ({}, {"distill": "regress_l2+rkd_angle"}),
    "with labels": (WITH_LABELS, {"distill": "contrast_to_teacher", "distill_options": "project=true"}),
    "tuples in chunks": (TUPLES | FROZEN, {"distill": "asymmetric_triplet", "supervised_weight": 0.5}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNED)
def test_an_interrupted_training_ends_with_the_same_bits(training_set, saved, tmp_path, monkeypatch, name):
    settings, distillation = LEARNED[name][0], {**LEARNED[name][1], "allow_missing_teacher": True}
    student = DescriptorConfig("small_resnet", whitening=0 if "distill_options" in distillation else 128)
    whole, history = fit(training_set, tmp_path / "whole", saved, settings, student, **distillation)
    for stop in (3,) if name == "alone" else (1, 3):
        with monkeypatch.context() as patch:
            break_off(patch, stop)
            with pytest.raises(InterruptedRunError):
                fit(training_set, tmp_path / "broken", saved, settings, student, resume=True, **distillation)
    again, again_history = fit(training_set, tmp_path / "broken", saved, settings, student, resume=True, **distillation)
    assert history == again_history == json.loads((tmp_path / "broken" / "history.json").read_text())
    for which in ("untrained", "last"):
        assert_equal(whole, again, which)
    assert any((one != other).any() for one, other in zip(weights(whole, "untrained"), weights(whole), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("online", [False, True])
def test_a_network_as_teacher_is_resumed_to_the_same_bits(training_set, tiny_run, tmp_path, monkeypatch, online):
    settings = FROZEN if online else {}
    whole, _ = fit(training_set, tmp_path / "whole", tiny_run.path, settings, teacher_online=online)
    with monkeypatch.context() as patch:
        break_off(patch, 3)
        with pytest.raises(InterruptedRunError):
            fit(training_set, tmp_path / "broken", tiny_run.path, settings, teacher_online=online)
    again, _ = fit(training_set, tmp_path / "broken", tiny_run.path, settings, resume=True, teacher_online=online)
    assert_equal(whole, again)
    assert (tmp_path / "whole" / "teacher" / "vectors.npy").is_file() is not online


@pytest.mark.slow
def test_online_the_teacher_sees_the_students_views_and_stays_as_it_is(training_set, tiny_run, tmp_path):
    """A student that begins as the teacher, with frozen statistics, has nothing to learn from its own views."""
    backbone = next(layer for layer in tiny_run.load_model().layers if layer.name == "small_resnet")
    backbone.save_weights(tmp_path / "same.weights.h5")
    same = DescriptorConfig("small_resnet", str(tmp_path / "same.weights.h5"))
    settings = {"epochs": 1, "steps": 1, "image_size": 48}
    before = tiny_run.load_model().get_weights()
    online, history = fit(training_set, tmp_path / "online", tiny_run.path, settings, same, teacher_online=True)
    _, once = fit(training_set, tmp_path / "once", tiny_run.path, settings, same)
    assert history[0]["loss"] < 1e-4 < once[0]["loss"]
    for one, other in zip(before, tiny_run.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(list(online.checkpoints.glob("epoch-*"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"chunk": 4}, {"whole_photos": True}], ids=["chunks", "whole photos"])
def test_the_online_teacher_works_in_chunks_and_on_whole_photos(training_set, tiny_run, tmp_path, settings):
    settings = {**settings, **FROZEN, "epochs": 1, "steps": 2}
    _, history = fit(training_set, tmp_path / "run", tiny_run.path, settings, teacher_online=True)
    assert 0 < history[0]["loss"] < 4
    if "chunk" in settings:
        _, plain = fit(training_set, tmp_path / "plain", tiny_run.path, {**settings, "chunk": 0}, teacher_online=True)
        assert history[0]["loss"] == pytest.approx(plain[0]["loss"], rel=1e-4)


@pytest.mark.slow
def test_photos_without_a_teacher_do_not_count(training_set, saved, tmp_path):
    """What stands in the place of a missing vector changes nothing: the mask reaches the loss."""
    student = DescriptorConfig("small_resnet", whitening=128)
    settings = {"epochs": 1, "steps": 2, "instances": 15, "validation_share": 0.0}  # a batch of all 30 photos
    with pytest.raises(InputError, match="lacks descriptors of 4 of 30 photos that train"):
        fit(training_set, tmp_path / "refused", saved, settings, student)
    assert not (tmp_path / "refused").exists()
    _, history = fit(training_set, tmp_path / "run", saved, settings, student, allow_missing_teacher=True)
    stored = Descriptors.load(saved)
    ids = training_set.split("train").ids
    zeros = np.concatenate([np.zeros((4, 128), np.float32), stored.vectors])
    Descriptors(zeros, ids, {}).save(tmp_path / "zeros")
    _, counted = fit(training_set, tmp_path / "counted", tmp_path / "zeros", settings, student)
    assert history[0]["loss"] != counted[0]["loss"]  # a row of zeros is 1 from any direction


def test_dimensions_that_cannot_be_compared_are_refused_before_anything_is_written(training_set, saved, tmp_path):
    student = DescriptorConfig("small_resnet", whitening=16)
    sentence = "--distill=regress_l2: .* the student has 16 dimensions and the teacher 128; .* is wanted"
    with pytest.raises(InputError, match=sentence):
        fit(training_set, tmp_path / "run", saved, student=student, allow_missing_teacher=True)
    assert not (tmp_path / "run").exists()
    assert DistillationConfig("t", distill="rkd_distance").guided(None, 16, 128).teacher_dimension == 128


@pytest.mark.slow
def test_another_teacher_is_not_resumed_with_but_one_that_moved_is(training_set, tiny_run, tmp_path):
    fit(training_set, tmp_path / "run", tiny_run.path, {"epochs": 1})
    moved = tmp_path / "moved"
    moved.symlink_to(tiny_run.path)
    fit(training_set, tmp_path / "run", moved, {"epochs": 1}, resume=True)
    with pytest.raises(InputError, match="the hash of its teacher"):
        fit(training_set, tmp_path / "run", moved, {"epochs": 1}, resume=True, teacher_which="untrained")


def test_a_folder_of_photos_that_show_no_two_instances_can_be_learned_from(
    training_set, tiny_run, photo_folder, tmp_path
):
    entries = read_folder(photo_folder / "old town", SourceOptions())
    one = [entry for entry in entries if entry.instance == entries[0].instance]
    records = write_record_set(one, tmp_path / "records", WriteOptions("one"))[0]
    settings = {"epochs": 1, "steps": 0, "validation_share": 0.1}
    run, history = fit(records, tmp_path / "run", tiny_run.path, settings)
    assert history[0]["validation_map"] is None and RunDirectory.load(run.path).model("best").is_file()
    with pytest.raises(InputError, match="at least two instances"):
        divide(records, 0.0, 0)
    with pytest.raises(InputError, match="at least two instances"):
        fit(records, tmp_path / "paired", tiny_run.path, settings, distill="asymmetric_triplet")


def test_shuffled_batches_have_every_photo_in_every_epoch(training_set):
    data = divide(training_set, 0.34, 0)
    plans = Plans(data, TrainingConfig(**{**COMMON, "steps": 0, "instances": 4}))
    epochs = [plans.part(epoch, 0, None) for epoch in (0, 1)]
    assert epochs[0].shape == (plans.steps, plans.batch_size) == (3, 8)  # 20 photos
    assert all(set(plan.ravel().tolist()) == set(data.rows.tolist()) for plan in epochs)
    assert (epochs[0] != epochs[1]).any()
    np.testing.assert_array_equal(
        epochs[1], Plans(data, TrainingConfig(**{**COMMON, "steps": 0, "instances": 4})).part(1, 0, None)
    )
    assert Plans(data, TrainingConfig(**{**COMMON, "instances": 50})).batch_size == 20


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"distill": "other"}, "--distill=other is unknown"),
        ({"distill": "feature_hint"}, "--distill=feature_hint compares feature maps, .* training loops of your own"),
        ({"distill_weights": "1+2"}, "--distill_weights=1\\+2; 1 numbers"),
        ({"distill_options": "taste=3"}, "--distill_options: taste is no option"),
        ({"supervised_weight": 0.0}, "--supervised_weight=0.0; a number above 0"),
        ({"supervised_weight": float("nan")}, "--supervised_weight=nan"),
        ({"teacher": ""}, "--teacher is not given"),
    ],
)
def test_bad_settings_are_one_sentence(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        DistillationConfig(**{"teacher": "runs/teacher", **settings})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"margin": 0.3}, "--margin=0.3 was given with --loss=none"),
        ({"memory": 64}, "--memory=64 was given with --loss=none"),
        ({"loss_weights": "2"}, "--loss_weights=2 was given with --loss=none"),
        ({"loss": "supervised_contrastive"}, "--sampler=shuffled seldom .* --loss=supervised_contrastive compares"),
    ],
)
def test_settings_of_no_loss_and_of_shuffled_batches_are_checked(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        TrainingConfig(**{**COMMON, **settings})
    assert TrainingConfig(**COMMON).make_loss() is None


def test_without_a_teacher_no_loss_is_refused(training_set, tmp_path):
    with pytest.raises(InputError, match="--loss=none leaves nothing to learn from"):
        train(training_set, tmp_path / "run", STUDENT, TrainingConfig(**COMMON), NO_AUGMENTATION, {})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("distill", "loss", "sampler"),
    [
        ("regress_l2+rkd_angle", "none", "shuffled"),
        ("asymmetric_triplet+regress_l2", "none", "balanced"),
        ("regress_l2", "arcface", "balanced"),
    ],
)
def test_batches_are_shuffled_where_no_loss_looks_for_instances(distill, loss, sampler):
    assert DistillationConfig("t", distill=distill).usual_sampler(loss) == sampler


@pytest.mark.slow
def test_the_last_layer_begins_nearest_to_the_teacher_and_again_when_resumed(
    training_set, tiny_run, tmp_path, monkeypatch
):
    student = DescriptorConfig("small_resnet", whitening=dimension_of(tiny_run))
    settings = {"epochs": 1, "steps": 3, "initial_share": 0.5}
    run, _ = fit(training_set, tmp_path / "run", tiny_run.path, settings, student, head_ridge=0.01)
    data = divide(training_set, COMMON["validation_share"], 0)
    teacher = Extractor(tiny_run.load_model(), 48)(training_set.split("train"), data.rows)
    model = run.load_model("untrained")
    pooled = keras.Model(model.input, model.get_layer("pooled").output)
    own = Extractor(pooled, 32)(training_set.split("train"), data.rows).astype(np.float64)
    inverse = np.linalg.inv(own.T @ own + 0.01 * np.eye(own.shape[1]))  # rows have length 1
    kernel, bias = model.get_layer("whitening").get_weights()
    np.testing.assert_allclose(kernel, inverse @ own.T @ teacher, atol=1e-3)
    assert not bias.any()
    with monkeypatch.context() as patch:
        break_off(patch, 2)
        with pytest.raises(InterruptedRunError):
            fit(training_set, tmp_path / "broken", tiny_run.path, settings, student, head_ridge=0.01)
    again, _ = fit(training_set, tmp_path / "broken", tiny_run.path, settings, student, resume=True, head_ridge=0.01)
    assert_equal(run, again)


@pytest.mark.parametrize("whitening", [0, 16])
def test_a_head_that_cannot_begin_at_the_teacher_is_refused(training_set, tiny_run, tmp_path, whitening):
    student = DescriptorConfig("small_resnet", whitening=whitening)
    with pytest.raises(InputError, match="--head_ridge begins a linear layer to the teacher's 256 dimensions, and"):
        fit(training_set, tmp_path / "run", tiny_run.path, student=student, head_ridge=0.1)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="--head_ridge=-1"):
        DistillationConfig("t", head_ridge=-1.0)
