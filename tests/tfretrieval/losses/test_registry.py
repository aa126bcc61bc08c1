import dataclasses

import keras
import numpy as np
import pytest

from tfretrieval import losses
from tfretrieval.training.config import TrainingConfig


def test_names_are_the_flags_choices():
    (field,) = (field for field in dataclasses.fields(TrainingConfig) if field.name == "loss")
    assert field.metadata["names"] == tuple(losses.LOSSES)
    assert field.default in losses.LOSSES


def test_kinds_share_no_name_and_make_up_the_registry():
    assert not set(losses.TUPLE_LOSSES) & set(losses.BATCH_LOSSES)
    assert set(losses.LOSSES) == {*losses.TUPLE_LOSSES, *losses.BATCH_LOSSES}


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_entry_is_a_keras_loss_of_that_name_that_deserialises(name):
    loss = losses.LOSSES[name]()
    assert isinstance(loss, keras.losses.Loss) and loss.name == name
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is losses.LOSSES[name] and again.get_config() == loss.get_config()
    assert losses.LOSSES[name].__name__ in losses.__all__


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_entry_gives_one_finite_float32_above_0_for_random_descriptors(name):
    vectors = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    descriptors = vectors.reshape(3, 4, 8) if name in losses.TUPLE_LOSSES else vectors
    loss = losses.LOSSES[name]()
    if hasattr(loss, "build"):
        loss.build(instances=4, dimension=8, seed=0)
    value = loss(np.repeat(np.arange(4), 3), descriptors)
    assert value.shape == () and value.dtype == "float32"
    assert np.isfinite(value) and value > 0


@pytest.mark.parametrize("name", [name for name in losses.LOSSES if "second_order" not in name])
def test_every_entry_is_used_by_training_as_its_kind(name):
    config = TrainingConfig(loss=name)
    assert config.uses_tuples == (name in losses.TUPLE_LOSSES)
    assert type(config.make_loss()) is losses.LOSSES[name]


@pytest.mark.parametrize("name", [name for name, loss in losses.LOSSES.items() if hasattr(loss, "build")])
def test_what_training_moves_of_a_loss_is_what_a_checkpoint_keeps(name):
    loss = losses.LOSSES[name]()
    loss.build(instances=4, dimension=8, seed=0)
    assert loss.trainable_variables
    assert {id(variable) for variable in loss.trainable_variables} <= {id(variable) for variable in loss.variables}
