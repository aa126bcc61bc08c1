"""Every loss of the registry gives under JAX the value and the gradient that it gives under TensorFlow."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tfretrieval import losses

from .checks import gradient, random_units

pytest.importorskip("jax")
pytestmark = pytest.mark.slow

LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
PROGRAM = """
import sys

import jax
import numpy as np

from tfretrieval import losses

assert "tensorflow" not in sys.modules
cases, results = np.load(sys.argv[1]), {}
for name, kind in losses.LOSSES.items():
    loss, descriptors = kind(), cases["tuples" if name in losses.TUPLE_LOSSES else "rows"]
    if hasattr(loss, "build"):
        loss.build(instances=4, dimension=descriptors.shape[-1], seed=0)
    for number, variable in enumerate(getattr(loss, "trainable_variables", [])):
        variable.assign(cases[f"{name}/variable/{number}"])
    value, slope = jax.jit(jax.value_and_grad(lambda x: loss(cases["labels"], x)))(descriptors)
    results |= {f"{name}/value": value, f"{name}/gradient": slope}
np.savez(sys.argv[2], **results)
"""


@pytest.fixture(scope="module")
def under_jax(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("jax"), random_units(12, 8)
    cases = {"labels": LABELS, "rows": rows, "tuples": rows.reshape(3, 4, 8)}
    loss_of = {}
    for name, kind in losses.LOSSES.items():
        loss_of[name] = kind()
        if hasattr(loss_of[name], "build"):
            loss_of[name].build(instances=4, dimension=8, seed=0)
        for number, variable in enumerate(getattr(loss_of[name], "trainable_variables", [])):
            cases[f"{name}/variable/{number}"] = variable.numpy()
    np.savez(folder / "cases.npz", **cases)
    command = [sys.executable, "-c", PROGRAM, folder / "cases.npz", folder / "results.npz"]
    done = subprocess.run(
        command, env=os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return cases, loss_of, np.load(folder / "results.npz")


@pytest.mark.parametrize("name", losses.LOSSES)
def test_equals_tensorflow(under_jax, name):
    cases, loss_of, found = under_jax
    descriptors = cases["tuples" if name in losses.TUPLE_LOSSES else "rows"]
    expected = gradient(lambda x: loss_of[name](LABELS, x), descriptors)
    np.testing.assert_allclose(found[f"{name}/value"], loss_of[name](LABELS, descriptors), rtol=1e-5)
    np.testing.assert_allclose(found[f"{name}/gradient"], expected, rtol=1e-4, atol=1e-5)
