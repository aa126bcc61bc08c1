import keras
import numpy as np

from tfretrieval.layers import RMAC, RegionalGeM
from tfretrieval.layers.gem import gem
from tfretrieval.layers.regions import region_grid


def positive_maps(size):
    return np.random.default_rng(0).uniform(0.05, 3.0, (2, *size, 3)).astype(np.float32)


def test_each_channels_own_exponent_is_used_in_every_region():
    maps, exponents = positive_maps((5, 8)), np.array([1.0, 3.0, 20.0], np.float32)
    layer = RegionalGeM(per_channel=True)
    layer.build(maps.shape)
    layer.p.assign(exponents)
    parts = [maps] + [
        maps[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        for level in region_grid(5, 8)
        for rows in level.rows
        for columns in level.columns
    ]
    vectors = [np.asarray(gem(part, exponents)) for part in parts]
    expected = sum(vector / np.linalg.norm(vector, axis=1, keepdims=True) for vector in vectors)
    np.testing.assert_allclose(layer(maps), expected, rtol=1e-5)


def test_at_a_large_exponent_it_is_rmac():
    maps = positive_maps((6, 9))
    np.testing.assert_allclose(RegionalGeM(p=3000.0)(maps), RMAC()(maps), rtol=5e-3)


def test_weak_regions_beside_a_strong_one_do_not_vanish_at_a_large_exponent():
    maps = np.full((1, 6, 6, 2), 1e-3, np.float32)
    maps[0, 0, 0] = 1e3  # the power 100 of their ratio is 1e-600
    np.testing.assert_allclose(RegionalGeM(p=100.0)(maps), np.full((1, 2), 15 / np.sqrt(2)), rtol=1e-5)


def test_saved_with_an_exponent_per_channel_it_loads_without_custom_objects(tmp_path):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, RegionalGeM(2.0, per_channel=True, epsilon=1e-4, name="pooling")(inputs))
    model.get_layer("pooling").p.assign([2.0, 3.0, 4.0])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(positive_maps((5, 8))), model(positive_maps((5, 8))))
