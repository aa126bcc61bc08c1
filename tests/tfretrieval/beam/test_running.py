import pytest

pytest.importorskip("apache_beam")

import apache_beam as beam

from tfretrieval.beam.options import BeamOptions
from tfretrieval.beam.running import run_all
from tfretrieval.errors import InputError

UNITS = [f"unit {number}" for number in range(6)]


def missing(folder):
    return [unit for unit in UNITS if not (folder / unit).exists()]


def doing(folder, fault):
    """Does units; `fault(unit)` may raise."""

    def do(unit):
        fault(unit)
        with (folder / "log").open("a") as log:
            log.write(f"{unit}\n")
        (folder / unit).touch()

    return beam.Map(do)


def fail_once(folder, error):
    def fault(unit):
        if unit == UNITS[3] and not (folder / "failed").exists():
            (folder / "failed").touch()
            raise error

    return fault


def test_what_failed_is_tried_again_and_what_is_done_is_not(tmp_path, capsys):
    run_all(
        lambda: missing(tmp_path),
        doing(tmp_path, fail_once(tmp_path, OSError("disk"))),
        BeamOptions("DirectRunner"),
        "unit",
    )
    assert missing(tmp_path) == []
    assert sorted((tmp_path / "log").read_text().splitlines()) == UNITS
    assert "disk" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["", "--direct_num_workers=2 --direct_running_mode=multi_threading"])
def test_a_refusal_in_a_worker_is_one_sentence_here(tmp_path, mode):
    refused = fail_once(tmp_path, InputError("the photo 'x' cannot be used: it is empty."))
    with pytest.raises(InputError, match=r"^the photo 'x' cannot be used: it is empty\.$"):
        run_all(lambda: missing(tmp_path), doing(tmp_path, refused), BeamOptions("DirectRunner", mode), "unit")


def test_what_never_works_ends_in_a_sentence(tmp_path):
    def fault(unit):
        if unit == UNITS[2]:
            raise OSError("no space left")

    with pytest.raises(InputError, match=r"leaves \d units undone, first 'unit 2': .*no space left") as told:
        run_all(lambda: missing(tmp_path), doing(tmp_path, fault), BeamOptions("DirectRunner"), "unit")
    assert "\n" not in str(told.value)


def test_a_runner_that_does_not_exist(tmp_path):
    with pytest.raises(InputError, match="--runner=NoSuchRunner"):
        run_all(lambda: missing(tmp_path), doing(tmp_path, lambda unit: None), BeamOptions("NoSuchRunner"), "unit")


def test_nothing_to_do_starts_nothing(tmp_path):
    run_all(lambda: [], None, BeamOptions("NoSuchRunner"), "unit")
