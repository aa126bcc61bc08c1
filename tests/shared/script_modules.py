"""A script's module in the tests' own process, though all scripts share one set of flags."""

import importlib
import sys

import pytest
from absl import flags


@pytest.fixture(scope="module")
def load_script():
    """Imports a script such as "pipelines.describe"; its flags are taken away again after the last test of the file.

    Scripts are processes of their own, and several define flags of one name.
    """
    before, loaded = set(flags.FLAGS), {}

    def load(name):
        if name not in loaded:
            loaded[name] = importlib.import_module(name)
        return loaded[name]

    yield load
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
    for name in loaded:
        sys.modules.pop(name, None)
