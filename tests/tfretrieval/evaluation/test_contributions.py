import math

import keras
import numpy as np
import pytest

from tfretrieval import layers
from tfretrieval.errors import InputError
from tfretrieval.evaluation.contributions import contributions, spread
from tfretrieval.models.descriptor import DescriptorConfig, add_scales, build_descriptor


def photo(height, width, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


FIRST, SECOND = photo(96, 144, 0), photo(112, 64, 1)


@pytest.fixture(scope="module")
def network_of():
    made = {}

    def network(pooling, whitening=0, **settings):
        key = (pooling, whitening, *sorted(settings.items()))
        if key not in made:
            keras.utils.set_random_seed(0)
            config = DescriptorConfig(backbone="small_resnet", pooling=pooling, whitening=whitening, **settings)
            made[key] = build_descriptor(config)
            if whitening:
                made[key].get_layer("whitening").bias.assign(np.linspace(-0.2, 0.1, whitening))
        return made[key]

    return network


def descriptor(model, pixels):
    return np.asarray(model(pixels[None], training=False), np.float64)[0]


@pytest.mark.parametrize("whitening", [0, 12])
@pytest.mark.parametrize("pooling", layers.POOLINGS)
def test_contributions_add_up_to_the_similarity(network_of, pooling, whitening):
    model = network_of(pooling, whitening)
    similarity = descriptor(model, FIRST) @ descriptor(model, SECOND)
    for one, two, shape in ((FIRST, SECOND, (6, 9)), (SECOND, FIRST, (7, 4))):
        found = contributions(model, one, two)
        assert found.similarity == pytest.approx(similarity, abs=1e-5)
        assert found.positions.shape == shape
        assert found.positions.sum() == pytest.approx(similarity, abs=1e-4)
    assert contributions(model, FIRST, FIRST).positions.sum() == pytest.approx(1, abs=1e-4)


def by_hand(maps, p, weights, bias, target):
    """Each position's share of a GeM -> L2 -> linear -> L2 descriptor's dot product with `target`, in a loop."""
    maps = np.maximum(maps.astype(np.float64), 1e-6)
    height, width, channels = maps.shape
    pooled = (maps**p).mean(axis=(0, 1)) ** (1 / p)
    length = np.linalg.norm(pooled)
    whitened = (pooled / length) @ weights + bias
    shares = np.zeros((height, width))
    for k in range(channels):
        powers = maps[..., k] ** p
        total = powers.sum()
        for row in range(height):
            for column in range(width):
                part = pooled[k] * powers[row, column] / total / length
                shares[row, column] += part * (weights[k] @ target) / np.linalg.norm(whitened)
    return shares, bias @ target / np.linalg.norm(whitened)


@pytest.mark.parametrize(("pooling", "p"), [("gem", 3.0), ("gem", 7.5), ("spoc", 1.0)])
def test_positions_of_gem_and_spoc_equal_the_loop(network_of, pooling, p):
    model = network_of(pooling, 12, **({"p": p} if pooling == "gem" else {}))
    maps = keras.Model(model.input, model.get_layer("pooling").input)(FIRST[None])[0]
    whitening = model.get_layer("whitening")
    shares, constant = by_hand(
        np.asarray(maps), p, whitening.kernel.numpy(), whitening.bias.numpy(), descriptor(model, SECOND)
    )
    found = contributions(model, FIRST, SECOND)
    assert found.constant == pytest.approx(constant, abs=1e-5)
    np.testing.assert_allclose(found.positions, shares + constant / shares.size, atol=1e-5)


def test_the_maximum_is_owed_to_the_positions_that_have_it(network_of):
    model = network_of("mac")
    maps = np.asarray(keras.Model(model.input, model.get_layer("pooling").input)(FIRST[None])[0], np.float64)
    pooled, target = maps.max(axis=(0, 1)), descriptor(model, SECOND)
    expected = np.zeros(maps.shape[:2])
    for k in range(maps.shape[2]):
        if pooled[k] > 0:
            place = np.unravel_index(maps[..., k].argmax(), maps.shape[:2])
            expected[place] += pooled[k] * target[k] / np.linalg.norm(pooled)
    np.testing.assert_allclose(contributions(model, FIRST, SECOND).positions, expected, atol=1e-5)


def test_regions_share_what_they_add():
    # R-MAC of a map of 2 x 2 positions: the whole map twice, as itself and as the one region of the first level, and
    # each position once, at the second level; at the third, regions would be of 2 * 2 // 4 = 1 position: 3 x 3 of them.
    inputs = keras.Input((2, 2, 3))
    model = keras.Model(inputs, keras.layers.UnitNormalization()(layers.RMAC(name="pooling")(inputs)))
    maps = np.random.default_rng(0).uniform(0.1, 1, (2, 2, 3)).astype(np.float32)
    found = contributions(model, maps, maps)
    vector = descriptor(model, maps)
    whole = maps.max(axis=(0, 1))
    pooled = np.asarray(model.get_layer("pooling")(maps[None]))[0]
    expected = np.zeros((2, 2))
    for row in range(2):
        for column in range(2):
            own = maps[row, column]
            held = np.where(own == whole, whole, 0)
            times = sum(
                (row, column) == (a * 1 // 2, b * 1 // 2) for a in range(3) for b in range(3)
            )  # starts of 3 regions along a side of 2
            expected[row, column] = vector @ (
                2 * held / np.linalg.norm(whole) + (1 + times) * own / np.linalg.norm(own)
            )
    np.testing.assert_allclose(found.positions, expected / np.linalg.norm(pooled), atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "whitening", "power"),
    [("gem", 0, 1.0), ("gem", 0, 2.5), ("gem", 0, math.inf), ("mac", 0, 2.5), ("rmac", 0, 1.0), ("gem", 12, 1.0)],
)
def test_contributions_of_several_scales_add_up(network_of, pooling, whitening, power):
    model = add_scales(network_of(pooling, whitening), (1.0, 0.7071, 0.5), power)
    found = contributions(model, FIRST, SECOND)
    assert found.positions.shape == (6, 9)
    assert found.positions.sum() == pytest.approx(descriptor(model, FIRST) @ descriptor(model, SECOND), abs=1e-4)


def test_two_scales_share_by_the_entries_that_each_gives(network_of):
    model, single = add_scales(network_of("gem"), (1.0, 1.0), 2.0), network_of("gem")
    both, one = (contributions(network, FIRST, SECOND) for network in (model, single))
    np.testing.assert_allclose(both.positions, one.positions, atol=1e-5)


def test_shares_are_spread_by_overlap():
    np.testing.assert_allclose(spread(np.array([[3.0, 6.0]]), 2, 3), [[1, 1.5, 2], [1, 1.5, 2]])
    values = np.random.default_rng(0).normal(size=(4, 5))
    assert spread(values, 7, 9).sum() == pytest.approx(values.sum())
    np.testing.assert_allclose(spread(values, 4, 5), values)


def test_a_bright_object_is_where_the_descriptor_looks():
    inputs = keras.Input((None, None, 3))
    maps = keras.layers.AveragePooling2D(8)(layers.InputScaling("none")(inputs))
    model = keras.Model(inputs, keras.layers.UnitNormalization()(layers.GeM(3.0, name="pooling")(maps)))
    pixels = np.full((64, 96, 3), 10, np.uint8)
    pixels[16:24, 40:48] = 250
    found = contributions(model, pixels, pixels).positions
    assert np.unravel_index(found.argmax(), found.shape) == (2, 5)
    assert found[2, 5] > 0.9


@pytest.mark.parametrize("layer", [keras.layers.ReLU(), keras.layers.Dense(4, activation="tanh")])
def test_what_is_not_linear_is_refused_by_its_name(layer):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layer(layers.SPoC(name="pooling")(inputs)))
    with pytest.raises(InputError, match=rf"layer {layer.name} \({type(layer).__name__}\) stands between"):
        contributions(model, FIRST, SECOND)


def test_a_pooling_that_does_not_scale_with_its_maps_is_refused():
    class Squared(layers.SPoC):
        def pool(self, maps, mask):
            return super().pool(maps, mask) ** 2

    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.UnitNormalization()(Squared(name="pooling")(inputs)))
    with pytest.raises(InputError, match="a pooling that scales with its maps is wanted"):
        contributions(model, FIRST, SECOND)


def test_a_network_without_pooling_is_refused():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    with pytest.raises(InputError, match="has no pooling of this toolkit"):
        contributions(model, FIRST, SECOND)
