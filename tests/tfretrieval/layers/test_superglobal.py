import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.layers import GeM, SuperGlobal
from tfretrieval.layers.superglobal import local_gem, relup


def maps_of(size, low=0.0):
    return np.random.default_rng(0).uniform(low, 3.0, (2, *size, 3)).astype(np.float32)


def test_relup_raises_small_activations_and_keeps_the_dtype():
    maps = np.array([-1.0, 0.0, 0.013, 0.014, 2.0], np.float16)
    found = relup(maps)
    assert found.dtype == tf.float16
    np.testing.assert_allclose(found, [0.014, 0.014, 0.014, 0.014, 2.0], rtol=1e-3)


@pytest.mark.parametrize("size", [(3, 3), (5, 9), (16, 12)])
def test_local_means_are_torchs_power_average_pooling_with_reflected_edges(size):
    torch = pytest.importorskip("torch")
    maps = maps_of(size)
    stacked = torch.from_numpy(maps.transpose(0, 3, 1, 2))
    padded = torch.nn.functional.pad(stacked, (2, 2, 2, 2), mode="reflect")
    powers = torch.nn.functional.avg_pool2d(padded.double() ** 2.5, 5, stride=1) ** (1 / 2.5)
    expected = (0.5 * stacked + 0.5 * powers).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(local_gem(maps), expected, rtol=1e-5, atol=1e-6)
    sums = torch.nn.functional.lp_pool2d(padded, 2.5, 5, stride=1) / 25 ** (1 / 2.5)
    np.testing.assert_allclose(powers.numpy(), sums.numpy(), rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 6)])
def test_equal_activations_stay_as_they_are_on_maps_of_any_size(size):
    np.testing.assert_allclose(local_gem(np.full((1, *size, 2), 0.7, np.float32)), np.full((1, *size, 2), 0.7), 1e-6)


def test_a_strong_activation_spreads_over_its_window_alone():
    maps = np.zeros((1, 11, 11, 1), np.float32)
    maps[0, 5, 5] = 10.0
    found = np.array(local_gem(maps))[0, :, :, 0]
    spread = 0.5 * 10 * (1 / 25) ** (1 / 2.5)
    assert found[5, 5] == pytest.approx(5 + spread)
    np.testing.assert_allclose(found[3:8, 3:8].ravel()[[0, 4, 20, 24]], spread, rtol=1e-5)
    found[3:8, 3:8] = 0
    assert np.abs(found).max() < 1e-5


def test_without_relup_and_smoothing_it_is_gem():
    maps = np.full((1, 4, 6, 3), 0.4, np.float32)
    np.testing.assert_allclose(SuperGlobal(alpha=0.0)(maps), GeM(p=4.6, epsilon=1e-8)(maps), rtol=1e-6)
    np.testing.assert_allclose(SuperGlobal(alpha=0.5)(maps), np.full((1, 3), 0.5), rtol=1e-6)


def test_its_exponent_is_4_6_and_fixed_unless_told_otherwise():
    fixed, learnt = SuperGlobal(), SuperGlobal(p=3.0, trainable_p=True)
    for layer in (fixed, learnt):
        layer.build((None, None, None, 4))
    assert float(fixed.p.numpy()) == pytest.approx(4.6) and fixed.trainable_variables == []
    assert float(learnt.p.numpy()) == 3.0 and len(learnt.trainable_variables) == 1
    with pytest.raises(ValueError, match="SuperGlobal's exponent p is 0"):
        SuperGlobal(p=0)
