import keras
import numpy as np
import pytest

from tfretrieval.losses import ProxyAnchor
from tfretrieval.losses.proxy_anchor import proxy_anchor

from .checks import assert_is_the_loop, random_units

LABELS = [0, 3, 1, 1, 3, 0]  # proxy 2 has no photo
PROXIES = np.random.default_rng(7).normal(size=(4, 8)).astype(np.float32)


def loop(rows, labels, proxies, margin, scale):
    pulls, pushes = [], []
    for c, proxy in enumerate(proxies.astype(float)):
        cosines = [row @ proxy / np.linalg.norm(proxy) for row in rows]
        own = [np.exp(-scale * (s - margin)) for s, label in zip(cosines, labels, strict=True) if label == c]
        others = [np.exp(scale * (s + margin)) for s, label in zip(cosines, labels, strict=True) if label != c]
        if own:
            pulls.append(np.log(1 + sum(own)))
        pushes.append(np.log(1 + sum(others)))
    return np.mean(pulls) + np.mean(pushes)


@pytest.mark.parametrize(("margin", "scale"), [(0.1, 32.0), (0.0, 4.0)])
@pytest.mark.parametrize("labels", [LABELS, [1] * 6])
def test_equals_the_loop(margin, scale, labels):
    assert_is_the_loop(
        lambda x: proxy_anchor(x, labels, PROXIES, margin, scale),
        lambda x: loop(x, labels, PROXIES, margin, scale),
        random_units(6, 8),
    )


def test_by_hand():
    # One photo on its proxy, opposite to the other: log(1 + exp(-2 (1 - 0.5))) + (0 + log(1 + exp(2 (-1 + 0.5)))) / 2.
    proxies = np.array([[1, 0], [-1, 0]], np.float32)
    expected = 1.5 * np.log(1 + np.exp(-1))
    assert float(proxy_anchor(np.array([[1, 0]], np.float32), [0], proxies, 0.5, 2.0)) == pytest.approx(expected)


def test_large_scales_do_not_overflow():
    rows = random_units(6, 8)
    expected = 200 * np.mean([max([0, *(0.1 + rows @ (p / np.linalg.norm(p)))]) for p in PROXIES])
    assert float(proxy_anchor(rows, [7] * 6, PROXIES, scale=200.0)) == pytest.approx(expected, rel=0.05)


def test_keras_loss_equals_the_function_and_survives_a_round_trip():
    rows, loss = random_units(6, 8), ProxyAnchor(margin=0.2, scale=16.0, name="own")
    loss.build(instances=4, dimension=8, seed=3)
    expected = proxy_anchor(rows, LABELS, loss.trainable_variables[0].numpy(), 0.2, 16.0)
    assert float(loss(np.array(LABELS), rows)) == pytest.approx(float(expected))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is ProxyAnchor and again.get_config() == loss.get_config()
    assert (again.margin, again.scale) == (0.2, 16.0) and (ProxyAnchor().margin, ProxyAnchor().scale) == (0.1, 32.0)
