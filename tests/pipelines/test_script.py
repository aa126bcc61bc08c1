import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
HEAD = """
import dataclasses, json
from absl import flags
from pipelines import script
from tfretrieval.errors import InputError
FLAGS = flags.FLAGS
"""
SETTINGS = '''
@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a test.

    Attributes:
        side: longer side of the photos, in pixels; a long line that goes on
            in a second one.
        share: a share, in [0, 1].
        flip: whether to flip.
        kind: one of two.
        weights: a file, or nothing.
        places: no flag.
    """

    side: int = 362
    share: float = 0.5
    flip: bool = True
    kind: str = dataclasses.field(default="gem", metadata={"choices": ("gem", "mac")})
    weights: str | None = None
    places: int = 3

'''
PRINT_SETTINGS = """
script.define_flags(Settings, skip=("places",))
flags.DEFINE_string("output", None, "Directory.")

def main():
    if FLAGS.output:
        script.save_flags(main, FLAGS.output)
    print(json.dumps(dataclasses.asdict(script.from_flags(Settings, places=7))))

script.run_main(main)
"""


@pytest.fixture
def run(tmp_path):
    """Runs a script's text with flags, as a user does from a shell."""

    def run_script(text, *given):
        path = tmp_path / "a_script.py"
        path.write_text(HEAD + textwrap.dedent(text))
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run(
            [sys.executable, path, *given], capture_output=True, text=True, env=environment, check=False, timeout=60
        )

    return run_script


def failing(error):
    return f"def main():\n    print('begun')\n    {error}\n\nscript.run_main(main)\n"


def test_an_input_error_is_one_sentence_with_exit_status_2(run):
    done = run(failing("raise InputError('photos is not a folder; a folder is wanted.')"))
    assert (done.returncode, done.stdout) == (2, "begun\n")
    assert done.stderr == "error: photos is not a folder; a folder is wanted.\n"


def test_ctrl_c_ends_with_status_130_and_no_traceback(run):
    done = run(failing("raise KeyboardInterrupt"))
    assert done.returncode == 130
    assert done.stderr.strip() == "interrupted"


def test_other_errors_keep_their_traceback(run):
    done = run(failing("raise ZeroDivisionError('ours to mend')"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ours to mend" in done.stderr


def test_a_word_that_is_no_flag_is_named_before_anything_runs(run):
    done = run(failing("pass"), "photos")
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr == "error: 'photos' is not a flag; flags are written --name=value.\n"


def test_flags_have_the_dataclass_s_defaults_and_types(run):
    done = run(SETTINGS + PRINT_SETTINGS)
    assert done.stdout == (
        '{"side": 362, "share": 0.5, "flip": true, "kind": "gem", "weights": null, "places": 7}\n'
    ), done.stderr


def test_flags_are_saved_so_that_flagfile_repeats_them(run, tmp_path):
    first = run(
        SETTINGS + PRINT_SETTINGS, "--side=64", "--share=1e-3", "--noflip", "--weights=a b#.h5", f"--output={tmp_path}"
    )
    assert first.stdout == (
        '{"side": 64, "share": 0.001, "flip": false, "kind": "gem", "weights": "a b#.h5", "places": 7}\n'
    ), first.stderr
    saved = (tmp_path / "flags.txt").read_text()
    assert saved == f"--flip=false\n--kind=gem\n--output={tmp_path}\n--share=0.001\n--side=64\n--weights=a b#.h5\n"
    again = run(SETTINGS + PRINT_SETTINGS, f"--flagfile={tmp_path}/flags.txt")
    assert again.stdout == first.stdout
    assert (tmp_path / "flags.txt").read_text() == saved


def test_help_tells_the_docstring_s_lines(run):
    told = " ".join(run(SETTINGS + PRINT_SETTINGS, "--help").stdout.split())
    assert "longer side of the photos, in pixels; a long line that goes on in a second one." in told
    assert "--kind: <gem|mac>: one of two." in told
    assert "--[no]flip: whether to flip." in told
    assert "places" not in told


def test_flags_are_defined_from_docstrings_as_python_3_13_keeps_them(run):
    stripped = "import inspect\nSettings.__doc__ = inspect.cleandoc(Settings.__doc__)\n"
    done = run(SETTINGS + stripped + PRINT_SETTINGS)
    assert done.returncode == 0, done.stderr


def test_a_flag_s_value_outside_of_its_choices_is_refused(run):
    done = run(SETTINGS + PRINT_SETTINGS, "--kind=max")
    assert done.returncode != 0
    assert "gem|mac" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_installed_command_shows_the_scripts_help_and_flags():
    code = "import sys; sys.argv = ['tfretrieval-evaluate', '--help']; from pipelines.evaluate import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert "Measures how well descriptors find their like" in done.stdout
    assert "--benchmark: " in done.stdout
