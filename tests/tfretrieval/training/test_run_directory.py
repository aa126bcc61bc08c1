import copy
import json

import keras
import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.training.run_directory import RunDirectory

DESCRIPTION = {
    "flags": {"records": "runs/records", "learning_rate": 1e-4, "epochs": 3, "weights": None, "p_per_channel": False},
    "seed": 0,
    "data": {"records": "ab" * 32, "weights": "cd" * 32},
}


def changed(kind, name, value):
    description = copy.deepcopy(DESCRIPTION)
    description[kind][name] = value
    return description


def test_a_new_directory_notes_what_the_run_is(tmp_path):
    run = RunDirectory.create(tmp_path / "a" / "run", DESCRIPTION, resume=False)
    assert run.read_description() == DESCRIPTION == json.loads((run.path / "run.json").read_text())
    assert run.checkpoints.is_dir()
    flags = (run.path / "flags.txt").read_text().splitlines()
    assert f"--output={run.path}" in flags and "--p_per_channel=false" in flags and "--epochs=3" in flags
    assert not any("weights" in flag for flag in flags)
    assert RunDirectory.load(run.path) == run


def test_an_empty_directory_is_used_and_resume_begins_where_there_is_nothing(tmp_path):
    RunDirectory.create(tmp_path, DESCRIPTION, resume=False)
    RunDirectory.create(tmp_path / "other", DESCRIPTION, resume=True)
    assert (tmp_path / "other" / "run.json").is_file()


def test_a_run_is_resumed_by_the_same_flags_wherever_its_records_are_now(tmp_path):
    first = RunDirectory.create(tmp_path / "run", DESCRIPTION, resume=False)
    before = first.description.read_bytes()
    again = RunDirectory.create(tmp_path / "run", changed("flags", "records", "/elsewhere"), resume=True)
    assert again == first
    assert first.description.read_bytes() == before


def test_a_run_is_not_written_over(tmp_path):
    RunDirectory.create(tmp_path / "run", DESCRIPTION, resume=False)
    with pytest.raises(InputError, match=r"--output=.*run holds a run already; --resume continues it"):
        RunDirectory.create(tmp_path / "run", DESCRIPTION, resume=False)


@pytest.mark.parametrize("resume", [False, True])
def test_other_files_are_not_written_over(tmp_path, resume):
    (tmp_path / "thesis.txt").write_text("keep me")
    with pytest.raises(InputError, match=r"holds other files and no run\.json"):
        RunDirectory.create(tmp_path, DESCRIPTION, resume)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("kind", "name", "value", "told"),
    [
        ("flags", "learning_rate", 0.5, r"--learning_rate=0\.0001 and this command has 0\.5"),
        ("flags", "weights", "w.h5", r"--weights=None and this command has w\.h5"),
        ("flags", "new_flag", 1, r"--new_flag=None and this command has 1"),
        ("data", "records", "ef" * 32, rf"the hash of its records={'ab' * 32} and this command has {'ef' * 32}"),
        ("data", "weights", "ef" * 32, "the hash of its weights"),
    ],
)
def test_other_flags_and_other_data_are_named_when_resuming(tmp_path, kind, name, value, told):
    RunDirectory.create(tmp_path / "run", DESCRIPTION, resume=False)
    with pytest.raises(InputError, match=rf"--resume: .*run was begun with {told}.*--flagfile=.*flags\.txt"):
        RunDirectory.create(tmp_path / "run", changed(kind, name, value), resume=True)


def test_a_flag_that_is_gone_is_named_when_resuming(tmp_path):
    RunDirectory.create(tmp_path / "run", DESCRIPTION, resume=False)
    fewer = copy.deepcopy(DESCRIPTION)
    del fewer["flags"]["epochs"]
    with pytest.raises(InputError, match="--epochs=3 and this command has None"):
        RunDirectory.create(tmp_path / "run", fewer, resume=True)


@pytest.mark.parametrize("which", ["best", "last", "untrained"])
def test_models_are_loaded_by_name(tmp_path, which):
    run = RunDirectory.create(tmp_path / "run", DESCRIPTION, resume=False)
    with pytest.raises(InputError, match=rf"has no {which}\.keras yet"):
        run.load_model(which)
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    model.save(run.model(which))
    np.testing.assert_array_equal(run.load_model(which)(np.ones((1, 2))), model(np.ones((1, 2))))


def test_what_is_no_run_directory_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=r"is not a run directory: it has no run\.json"):
            RunDirectory.load(path)
