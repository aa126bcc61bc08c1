import numpy as np

from tfretrieval.layers import GeM, SPoC
from tfretrieval.layers.spoc import spoc


def test_by_hand():
    tokens = np.array([[[1.0, -2.0], [3.0, 5.0], [5.0, 0.0]]], np.float32)
    np.testing.assert_allclose(spoc(tokens), [[3.0, 1.0]])
    np.testing.assert_allclose(spoc(tokens, np.array([[True, True, False]])), [[2.0, 1.5]])


def test_it_is_gem_with_exponent_1():
    maps = np.random.default_rng(0).uniform(0.1, 2.0, (2, 4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(SPoC()(maps), GeM(p=1.0)(maps), rtol=1e-5)
