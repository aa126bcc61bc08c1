import numpy as np
import pytest

from tfretrieval import losses
from tfretrieval.data.augmentation import Augmentation
from tfretrieval.errors import InputError
from tfretrieval.losses.classification import ClassificationLoss
from tfretrieval.models.descriptor import DescriptorConfig, load_descriptor
from tfretrieval.training.config import TrainingConfig
from tfretrieval.training.instances import TrainingData
from tfretrieval.training.plans import Plans
from tfretrieval.training.train import train
from tfretrieval.training.trainer import Trainer

SETTINGS = {
    "sampler": "class_uniform",
    "instances": 2,
    "photos": 3,
    "image_size": 32,
    "epochs": 2,
    "steps": 2,
    "checkpoint_steps": 1,
    "validation_share": 0.34,
}
CLASSIFYING = [name for name, loss in losses.LOSSES.items() if issubclass(loss, ClassificationLoss)]


@pytest.fixture
def tail(training_set):
    """Training photos of four instances, which have five, five, two and one."""
    split = training_set.split("train")
    kept = dict(zip(np.unique(split.labels)[:4], (5, 5, 2, 1), strict=True))
    rows = np.concatenate([np.flatnonzero(split.labels == label)[:count] for label, count in kept.items()])
    return TrainingData(split, rows, split.labels[rows], split, np.array([], np.int64), 1)


def plan_of(plans, epoch):
    return plans.part(epoch, 0, None)


def test_a_plan_has_all_instances_equally_often_lone_ones_too(tail):
    plans = Plans(tail, TrainingConfig(loss="arcface", **{**SETTINGS, "steps": 4}))
    plan = plan_of(plans, 0)
    assert plan.shape == (plans.steps, plans.batch_size) == (4, 6)
    assert np.unique(tail.split.labels[plan], return_counts=True)[1].tolist() == [6, 6, 6, 6]
    assert set(plan.ravel().tolist()) == set(tail.rows.tolist())


def test_as_many_steps_as_pass_over_all_photos_by_default(tail):
    plans = Plans(tail, TrainingConfig(loss="arcface", **{**SETTINGS, "steps": 0}))
    assert (plans.steps, plans.batch_size) == (2, 6)  # 13 photos


def test_plans_are_of_the_seed_and_the_epoch_alone(tail):
    config = TrainingConfig(loss="arcface", **SETTINGS)
    first, again = Plans(tail, config), Plans(tail, config)
    plan_of(again, 0)
    np.testing.assert_array_equal(plan_of(first, 3), plan_of(again, 3))
    assert (plan_of(first, 3) != plan_of(first, 2)).any()
    other = Plans(tail, TrainingConfig(loss="arcface", seed=1, **SETTINGS))
    assert (plan_of(first, 3) != plan_of(other, 3)).any()


class InterruptedRunError(Exception):
    pass


@pytest.mark.slow
def test_arcface_trains_and_an_interrupted_training_ends_with_the_same_weights(training_set, tmp_path, monkeypatch):
    config = TrainingConfig(loss="arcface", **SETTINGS)

    def fit(output, resume=False):
        network = DescriptorConfig(backbone="small_resnet")
        return train(training_set, tmp_path / output, network, config, Augmentation(hue=0.1), {}, resume)

    run, history = fit("whole")
    assert all(np.isfinite(entry["loss"]) for entry in history)
    with monkeypatch.context() as patch:
        original, done = Trainer._check_finite, []

        def breaking_off(self, loss, number):
            done.append(number)
            if len(done) == 4:
                raise InterruptedRunError
            original(self, loss, number)

        patch.setattr(Trainer, "_check_finite", breaking_off)
        with pytest.raises(InterruptedRunError):
            fit("broken")
    resumed, resumed_history = fit("broken", resume=True)
    assert resumed_history == history
    ends = [load_descriptor(found.model("last")).get_weights() for found in (run, resumed)]
    begin = load_descriptor(run.model("untrained")).get_weights()
    assert any((before != after).any() for before, after in zip(begin, ends[0], strict=True))
    for one, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_class_uniform_is_for_losses_that_classify(name):
    joined = f"arcface+{name}"
    if name in CLASSIFYING:
        assert TrainingConfig(loss=joined, sampler="class_uniform").sampler == "class_uniform"
    else:
        with pytest.raises(InputError, match=f"--sampler=class_uniform seldom .* --loss={name} compares these"):
            TrainingConfig(loss=joined, sampler="class_uniform")


def test_six_losses_classify():
    assert CLASSIFYING == ["arcface", "cosface", "norm_softmax", "proxy_anchor", "proxy_nca", "softmax"]


def test_unknown_names_are_refused_before_the_sampler():
    with pytest.raises(InputError, match="--loss=other is unknown"):
        TrainingConfig(loss="arcface+other", sampler="class_uniform")
    with pytest.raises(
        InputError, match="--sampler=other is unknown; one of balanced, class_uniform, shuffled is wanted"
    ):
        TrainingConfig(sampler="other")
