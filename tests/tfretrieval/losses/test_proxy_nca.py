import keras
import numpy as np
import pytest

from tfretrieval.losses import ProxyNCA
from tfretrieval.losses.norm_softmax import norm_softmax
from tfretrieval.losses.proxy_nca import proxy_nca

from .checks import assert_is_the_loop, random_units

LABELS = [0, 3, 1, 1, 2, 0]
PROXIES = np.random.default_rng(7).normal(size=(4, 8)).astype(np.float32)


def distances(row, proxies):
    """Of unit vectors, so that a row moved off the sphere moves like the cosine does."""
    return [2 - 2 * row @ proxy / np.linalg.norm(proxy) for proxy in proxies.astype(float)]


def loop(rows, labels, proxies, temperature):
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        d = distances(row, proxies)
        others = sum(np.exp(-d[c] / temperature) for c in range(len(proxies)) if c != label)
        total -= np.log(np.exp(-d[label] / temperature) / others)
    return total / len(rows)


@pytest.mark.parametrize("temperature", [1.0, 1 / 9])
def test_equals_the_loop(temperature):
    assert_is_the_loop(
        lambda x: proxy_nca(x, LABELS, PROXIES, temperature),
        lambda x: loop(x, LABELS, PROXIES, temperature),
        random_units(6, 8),
    )


def test_by_hand():
    # Squared distances 0 to the own proxy, 2 and 4 to the others: 0 + log(exp(-2) + exp(-4)), below 0.
    proxies = np.array([[1, 0], [0, 2], [-3, 0]], np.float32)
    expected = np.log(np.exp(-2) + np.exp(-4))
    assert float(proxy_nca(np.array([[1, 0]], np.float32), [0], proxies)) == pytest.approx(expected)


def test_proxy_nca_plus_plus_is_the_normalised_softmax():
    rows, total = random_units(6, 8), 0.0
    for row, label in zip(rows.astype(float), LABELS, strict=True):
        shares = np.exp(-9 * np.array(distances(row, PROXIES)))
        total -= np.log(shares[label] / shares.sum())
    assert float(norm_softmax(rows, LABELS, PROXIES, scale=18.0, smoothing=0.0)) == pytest.approx(total / 6, rel=1e-5)


def test_keras_loss_equals_the_function_and_survives_a_round_trip():
    rows, loss = random_units(6, 8), ProxyNCA(temperature=0.5, name="own")
    loss.build(instances=4, dimension=8, seed=3)
    expected = proxy_nca(rows, LABELS, loss.trainable_variables[0].numpy(), 0.5)
    assert float(loss(np.array(LABELS), rows)) == pytest.approx(float(expected))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is ProxyNCA and again.get_config() == loss.get_config() and again.temperature == 0.5


def test_one_instance_is_refused():
    with pytest.raises(ValueError, match="1 instance; 2 or more are wanted"):
        ProxyNCA().build(instances=1, dimension=8, seed=0)
