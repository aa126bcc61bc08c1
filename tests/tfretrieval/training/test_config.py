import dataclasses

import pytest

from tfretrieval import losses
from tfretrieval.errors import InputError
from tfretrieval.training.config import DECAY_KINDS, OPTIMIZERS, SCHEDULES, TrainingConfig

TOO_SMALL = {
    "image_size": 15,
    "train_size": -1,
    "tuples": 0,
    "negatives": 0,
    "queries": -1,
    "pool_size": -1,
    "instances": 1,
    "photos": 1,
    "epochs": 0,
    "steps": -1,
    "learning_rate": -1e-9,
    "p_multiplier": -1.0,
    "whitening_multiplier": -1.0,
    "attention_multiplier": -1.0,
    "warmup": -1,
    "checkpoint_steps": 0,
    "cache_mb": -1,
    "extraction_batch": 0,
    "seed": -1,
}


@pytest.mark.parametrize(("name", "value"), TOO_SMALL.items())
def test_a_value_below_the_least_is_refused_by_its_flag(name, value):
    with pytest.raises(InputError, match=rf"--{name}={value}; .* or more is wanted"):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize(("name", "value"), TOO_SMALL.items())
def test_the_least_value_is_accepted(name, value):
    least = 0.0 if isinstance(value, float) else value + 1
    assert getattr(TrainingConfig(**{name: least}), name) == least


@pytest.mark.parametrize("name", ["weight_decay", "decay"])
def test_a_negative_decay_is_refused_by_its_flag(name):
    with pytest.raises(InputError, match=f"--{name}=-0.1"):
        TrainingConfig(**{name: -0.1})


@pytest.mark.parametrize("name", ["learning_rate", "p_multiplier", "average", "validation_share"])
def test_nan_is_refused_by_its_flag(name):
    with pytest.raises(InputError, match=f"--{name}=nan"):
        TrainingConfig(**{name: float("nan")})


@pytest.mark.parametrize("name", ["average", "initial_share", "validation_share"])
@pytest.mark.parametrize("value", [-0.01, 1, 1.5])
def test_a_share_outside_0_to_1_is_refused_by_its_flag(name, value):
    with pytest.raises(InputError, match=rf"--{name}={value}; a share"):
        TrainingConfig(**{name: value})


KNOWN = {"loss": losses.LOSSES, "schedule": SCHEDULES, "optimizer": OPTIMIZERS, "decay_kind": DECAY_KINDS}


@pytest.mark.parametrize("name", KNOWN)
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(InputError, match=f"--{name}=other is unknown; one of .* is wanted") as error:
        TrainingConfig(**{name: "other"})
    assert all(known in str(error.value) for known in KNOWN[name])


@pytest.mark.parametrize("name", losses.LOSSES)
def test_margin_and_temperature_reach_the_losses_that_have_them_and_no_others(name):
    own = losses.LOSSES[name]().get_config()
    for option in ("margin", "temperature"):
        if option in own:
            assert getattr(TrainingConfig(loss=name, **{option: 0.31}).make_loss(), option) == 0.31
            assert getattr(TrainingConfig(loss=name).make_loss(), option) == own[option]
            for value in (0.0, -1.0):
                with pytest.raises(InputError, match=f"--{option}={value}; more than 0 is wanted"):
                    TrainingConfig(loss=name, **{option: value})
        else:
            with pytest.raises(InputError, match=f"--{option} was given, and --loss={name} has no {option}"):
                TrainingConfig(loss=name, **{option: 0.31})


def test_view_size_is_the_image_size_unless_given():
    assert TrainingConfig(image_size=96).view_size == 96
    assert TrainingConfig(image_size=96, train_size=64).view_size == 64


def test_choices_are_what_is_accepted_and_every_field_has_a_default():
    choices = {field.name: field.metadata.get("choices") for field in dataclasses.fields(TrainingConfig)}
    for name in ("schedule", "optimizer", "decay_kind"):
        assert choices[name] == KNOWN[name]
        for value in KNOWN[name]:
            assert getattr(TrainingConfig(**{name: value}), name) == value
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().seed = 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss": "norm_softmax+other"}, "--loss=other is unknown"),
        ({"loss": "norm_softmax+multi_similarity", "loss_weights": "1"}, "2 numbers above 0"),
        ({"loss": "norm_softmax+multi_similarity", "loss_weights": "1+x"}, "--loss_weights=1[+]x"),
        ({"loss": "norm_softmax", "loss_weights": "0"}, "numbers above 0"),
    ],
)
def test_sums_of_losses_that_do_not_fit_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        TrainingConfig(**settings)


def test_a_temperature_goes_to_the_loss_that_has_one():
    loss = TrainingConfig(loss="norm_softmax+supervised_contrastive", loss_weights="1+0.5", temperature=0.2).make_loss()
    assert [type(part).__name__ for part in loss.parts] == ["NormSoftmax", "SupervisedContrastive"]
    assert loss.weights == [1.0, 0.5]
    assert loss.parts[1].temperature == 0.2
