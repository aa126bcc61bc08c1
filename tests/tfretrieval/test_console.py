import os
import subprocess
import sys

QUIET = "from tfretrieval import console; console.quiet_tensorflow()"
SHOWS = f"{QUIET}; import tensorflow as tf; print(tf.size([1, 2]).numpy())"
STARTS = f"{QUIET}; import subprocess, sys; subprocess.run([sys.executable, '-c', {SHOWS!r}])"
OWN = ("TF_CPP_MIN_LOG_LEVEL", "TFRETRIEVAL_QUIET")


def run(code, **environment):
    inherited = {name: value for name, value in os.environ.items() if name not in OWN}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env={**inherited, **environment}, check=True)


def test_tensorflow_starts_without_a_word_also_in_processes_that_processes_start():
    done = run(STARTS)
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_a_log_level_of_the_users_own_is_left_alone():
    assert "oneDNN" in run(SHOWS, TF_CPP_MIN_LOG_LEVEL="0").stderr
