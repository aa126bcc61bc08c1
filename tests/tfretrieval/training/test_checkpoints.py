import json

import keras
import numpy as np
import pytest

from tfretrieval import files
from tfretrieval.errors import InputError
from tfretrieval.training.checkpoints import Checkpoints, Progress


def toy_training(units=3, seed=1):
    """All variables of a network with a Dropout layer and of its optimiser, after a step."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((2,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(units)(inputs))
    model = keras.Model(inputs, keras.layers.Dropout(0.5)(hidden))
    optimizer = keras.optimizers.AdamW(0.01 * seed)
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(seed)
    optimizer.apply([rng.normal(size=v.shape).astype(np.float32) for v in model.trainable_variables])
    model(np.ones((4, 2), np.float32), training=True)
    return model, [*model.variables, *optimizer.variables]


def values(variables):
    return [variable.numpy() for variable in variables]


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_all_variables_and_the_progress_come_back_bit_for_bit(tmp_path):
    model, variables = toy_training(seed=1)
    plan = np.arange(12).reshape(3, 4)
    progress = Progress(2, 1, plan, 0.1 + 0.2, 0.875, ({"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": None}))
    Checkpoints(tmp_path, variables).save(progress)
    other_model, other = toy_training(seed=2)
    assert any((a != b).any() for a, b in zip(values(variables), values(other), strict=True))
    found = Checkpoints(tmp_path, other).restore()
    for expected, value in zip(values(variables), values(other), strict=True):
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(found.plan, plan)
    assert (found.epoch, found.step, found.loss_sum, found.best_map) == (2, 1, 0.1 + 0.2, 0.875)
    assert found.history == progress.history
    # The Dropout layer's random state is among them: both go on with the same masks.
    photos = np.ones((8, 2), np.float32)
    np.testing.assert_array_equal(model(photos, training=True), other_model(photos, training=True))


def test_without_a_checkpoint_a_training_begins_and_nothing_changes(tmp_path):
    _, variables = toy_training()
    before = values(variables)
    assert Checkpoints(tmp_path / "absent", variables).restore() == Progress()
    for value, expected in zip(values(variables), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_an_epoch_that_has_not_begun_has_no_plan(tmp_path):
    _, variables = toy_training()
    Checkpoints(tmp_path, variables).save(Progress(epoch=1, history=({"epoch": 1},)))
    found = Checkpoints(tmp_path, variables).restore()
    assert found.plan is None and found.best_map is None and found.epoch == 1


def test_the_two_newest_are_kept_and_the_newest_is_restored(tmp_path):
    _, variables = toy_training()
    checkpoints = Checkpoints(tmp_path, variables)
    for epoch, step in ((0, 900), (0, 10000), (1, 0), (1, 50), (10, 0)):
        variables[0].assign(np.full(variables[0].shape, epoch * 100000 + step, np.float32))
        checkpoints.save(Progress(epoch=epoch, step=step))
    assert names(tmp_path) == ["epoch-00001-step-0000050", "epoch-00010-step-0000000"]
    found = checkpoints.restore()
    assert (found.epoch, found.step) == (10, 0)
    assert (variables[0].numpy() == 1000000).all()


def test_a_half_written_directory_is_ignored(tmp_path):
    _, variables = toy_training()
    checkpoints = Checkpoints(tmp_path, variables)
    checkpoints.save(Progress(epoch=1))
    for name in (".epoch-00002-step-0000000.partial-abc", "epoch-00003-step-0000000"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "variables.npz").write_bytes(b"half")
    assert checkpoints.restore().epoch == 1


def test_an_interrupted_save_leaves_the_one_before_and_no_rest(tmp_path, monkeypatch):
    _, variables = toy_training()
    checkpoints = Checkpoints(tmp_path, variables)
    checkpoints.save(Progress(epoch=1))

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_text", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(Progress(epoch=2))
    assert names(tmp_path) == ["epoch-00001-step-0000000"]
    assert checkpoints.restore().epoch == 1


def test_the_same_instant_may_be_saved_again(tmp_path):
    _, variables = toy_training()
    checkpoints = Checkpoints(tmp_path, variables)
    for loss_sum in (1.0, 2.0):
        checkpoints.save(Progress(epoch=1, step=3, plan=np.zeros((4, 2), np.int64), loss_sum=loss_sum))
    assert names(tmp_path) == ["epoch-00001-step-0000003"]
    assert checkpoints.restore().loss_sum == 2.0


@pytest.mark.parametrize("change", ["other shape", "one fewer"])
def test_another_network_is_refused_and_left_as_it_is(tmp_path, change):
    _, variables = toy_training()
    Checkpoints(tmp_path, variables).save(Progress(epoch=4))
    other = toy_training(units=5)[1] if change == "other shape" else toy_training(seed=2)[1][:-1]
    before = values(other)
    with pytest.raises(InputError, match=r"epoch-00004-step-0000000 holds other variables .* belongs to another run"):
        Checkpoints(tmp_path, other).restore()
    for value, expected in zip(values(other), before, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "missing", "flipped"])
def test_a_damaged_checkpoint_is_named_with_what_to_do(tmp_path, damage):
    _, variables = toy_training()
    Checkpoints(tmp_path, variables).save(Progress(epoch=4))
    path = tmp_path / "epoch-00004-step-0000000" / "variables.npz"
    whole = path.read_bytes()
    middle = whole.index(b"\x93NUMPY") + 130
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    path.write_bytes({"cut": whole[:-200], "empty": b"", "text": b"no arrays", "flipped": flipped}.get(damage, whole))
    if damage == "missing":
        path.unlink()
    with pytest.raises(InputError, match=r"epoch-00004-step-0000000 cannot be read .* delete it to resume"):
        Checkpoints(tmp_path, variables).restore()


def test_progress_is_plain_json(tmp_path):
    _, variables = toy_training()
    Checkpoints(tmp_path, variables).save(Progress(epoch=1, history=({"epoch": 1, "loss": 0.25},)))
    told = json.loads((tmp_path / "epoch-00001-step-0000000" / "progress.json").read_text())
    assert told["history"] == [{"epoch": 1, "loss": 0.25}]
