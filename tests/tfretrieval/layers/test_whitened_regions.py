import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.layers.regional_gem import RegionalGeM
from tfretrieval.layers.whitened_regions import KINDS, WhitenedRegions


def regions(height, width):
    """R-MAC's squares (top, left, side), each level evenly from edge to edge."""
    short = min(height, width)
    overlaps = [1 - (max(height, width) - short) / (gaps * short) for gaps in range(1, 7)]
    more = 1 + int(np.argmin(np.abs(np.array(overlaps) - 0.4)))
    for level in (1, 2, 3):
        side = 2 * short // (level + 1)
        rows, columns = (level + more * (a > b) for a, b in ((height, width), (width, height)))
        for row in range(rows):
            for column in range(columns):
                top = row * (height - side) // max(rows - 1, 1)
                left = column * (width - side) // max(columns - 1, 1)
                if side:
                    yield top, left, side


def expected(maps, kind, p, kernel, bias):
    def unit(vector):
        return vector / np.linalg.norm(vector)

    pool = {
        "gem": lambda part: np.mean(np.maximum(part, 1e-6) ** p, axis=(0, 1)) ** (1 / p),
        "mac": lambda part: part.max(axis=(0, 1)),
        "spoc": lambda part: part.mean(axis=(0, 1)),
    }[kind]
    rows = []
    for photo in maps.astype(np.float64):
        height, width, _ = photo.shape
        parts = [photo, *(photo[t : t + s, le : le + s] for t, le, s in regions(height, width))]
        rows.append(sum(unit(unit(pool(part)) @ kernel + bias) for part in parts))
    return np.array(rows)


def made(kind, p, channels=6):
    rng = np.random.default_rng(1)
    layer = WhitenedRegions(kind, **({"p": p} if kind == "gem" else {}))
    layer.build((None, None, None, channels))
    layer.kernel.assign(rng.normal(size=(channels, channels)))
    layer.bias.assign(rng.normal(size=channels))
    return layer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(7, 7), (6, 9), (12, 4), (1, 1), (2, 3)])
def test_equals_the_explicit_sum_over_regions(kind, size):
    maps = np.random.default_rng(0).gamma(1.0, 1.0, (2, *size, 6)).astype(np.float32)
    layer = made(kind, 2.5)
    found = layer(maps)
    wanted = expected(maps, kind, 2.5, layer.kernel.numpy(), layer.bias.numpy())
    np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("p", [1.0, 3.0, 100.0])
def test_with_an_identity_for_the_linear_layer_it_is_regional_gem(p):
    maps = np.random.default_rng(0).gamma(1.0, 1.0, (2, 6, 8, 5)).astype(np.float32)
    np.testing.assert_allclose(WhitenedRegions("gem", p)(maps), RegionalGeM(p)(maps), atol=1e-5)


def test_gradients_are_finite_at_zero_activations_and_large_exponents():
    maps = tf.Variable(np.zeros((1, 5, 7, 6), np.float32))
    layer = made("gem", 100.0)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(maps))
    for gradient in tape.gradient(total, [maps, *layer.trainable_variables]):
        assert np.isfinite(np.asarray(gradient)).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_saved_in_a_model_it_loads_and_stays_float32(tmp_path, policy):
    inputs = keras.Input((None, None, 6))
    model = keras.Model(inputs, WhitenedRegions("gem", 2.0, per_channel=True, dtype=policy)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    maps = np.random.default_rng(0).random((1, 5, 6, 6)).astype(np.float32)
    assert loaded(maps).dtype == "float32"
    assert loaded.layers[-1].p.shape == (6,)
    np.testing.assert_allclose(loaded(maps), model(maps), atol=1e-6)


def test_what_it_cannot_be_made_of_is_refused():
    with pytest.raises(ValueError, match="'rmac'; one of gem, mac, spoc is wanted"):
        WhitenedRegions("rmac")
    with pytest.raises(ValueError, match="exponent p is 0; more than 0 is wanted"):
        WhitenedRegions(p=0)
    with pytest.raises(ValueError, match="maps"):
        WhitenedRegions()(np.ones((1, 4, 3), np.float32))
