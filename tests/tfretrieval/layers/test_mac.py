import numpy as np

from tfretrieval.layers import MAC, GeM
from tfretrieval.layers.mac import mac


def test_by_hand_with_negative_activations():
    tokens = np.array([[[1.0, -2.0], [3.0, -5.0], [5.0, -1.0]]], np.float32)
    np.testing.assert_array_equal(mac(tokens), [[5.0, -1.0]])
    np.testing.assert_array_equal(mac(tokens, np.array([[True, True, False]])), [[3.0, -2.0]])


def test_gem_comes_near_to_it_as_its_exponent_grows():
    maps = np.random.default_rng(0).uniform(0.1, 2.0, (2, 4, 5, 3)).astype(np.float32)
    misses = [np.abs(np.asarray(MAC()(maps)) - np.asarray(GeM(p=p)(maps))).max() for p in (10.0, 100.0, 1000.0)]
    assert misses[0] > misses[1] > misses[2] and misses[2] < 0.01
