"""Every pooling of the registry, against its definition as explicit loops."""

import inspect
from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.layers import POOLINGS
from tfretrieval.layers.pooling import Pooling

ON_GRIDS = ("rmac", "regional_gem", "superglobal")
ON_TOKENS = tuple(name for name in POOLINGS if name not in ON_GRIDS)
EXPONENTS = {"gem": 3.0, "regional_gem": 3.0, "superglobal": 4.6}
# Square, oblong both ways, and sides on which windows and regions barely fit.
SIZES = ((6, 6), (5, 9), (12, 4), (2, 3), (1, 1), (1, 7))


def generalised_mean(values, p, epsilon):
    return np.mean(np.maximum(values, epsilon) ** p) ** (1 / p)


def by_channel(maps, mask, reduce):
    """[H, W, C] -> [C]: a function of the values of each channel that count."""
    return np.array([reduce(maps[..., k][mask]) if mask.any() else 0.0 for k in range(maps.shape[-1])])


def unit(vector):
    return vector / max(np.linalg.norm(vector), 1e-6)


def regions(height, width):
    """Top, left and side of R-MAC's regions, in exact fractions."""
    short, long = sorted((height, width))
    steps = [Fraction(long - short, count - 1) for count in range(2, 8)]
    misses = [abs(1 - step / short - Fraction(2, 5)) for step in steps]
    extra = misses.index(min(misses)) + 1
    for level in (1, 2, 3):
        side = 2 * short // (level + 1)
        starts = []
        for length, other in ((height, width), (width, height)):
            count = level + extra * (length > other)
            starts.append([int(Fraction(i * (length - side), max(count - 1, 1))) for i in range(count)])
        if side:
            yield from ((top, left, side) for top in starts[0] for left in starts[1])


def over_regions(maps, mask, pool):
    """The sum of unit vectors of the whole map and of all regions."""
    total = unit(pool(maps, mask))
    for top, left, side in regions(*maps.shape[:2]):
        rows, columns = slice(top, top + side), slice(left, left + side)
        total += unit(pool(maps[rows, columns], mask[rows, columns]))
    return total


def spoc(maps, mask):
    return by_channel(maps, mask, np.mean)


def mac(maps, mask):
    return by_channel(maps, mask, np.max)


def gem(maps, mask):
    return by_channel(maps, mask, lambda values: generalised_mean(values, 3.0, 1e-6))


def crow(maps, mask):
    height, width, channels = maps.shape
    strength = np.array([[maps[y, x].sum() * mask[y, x] for x in range(width)] for y in range(height)])
    norm = np.sqrt((strength**2).sum())
    present = [np.mean(maps[..., k][mask] > 0) if mask.any() else 0.0 for k in range(channels)]
    pooled = np.zeros(channels)
    for k in range(channels):
        for y in range(height):
            for x in range(width):
                if mask[y, x] and present[k]:
                    weight = np.sqrt(strength[y, x] / norm)
                    pooled[k] += weight * maps[y, x, k] * np.log(sum(present) / present[k])
    return pooled


def reflected(place, length):
    while not 0 <= place < length:
        place = -place if place < 0 else 2 * (length - 1) - place
        if length == 1:
            return 0
    return place


def superglobal(maps, mask):
    height, width, channels = maps.shape
    maps, smooth = np.maximum(maps, 0.014), np.zeros_like(maps)
    for y in range(height):
        for x in range(width):
            around = [
                (reflected(y + down, height), reflected(x + right, width))
                for down in range(-2, 3)
                for right in range(-2, 3)
            ]
            around = [place for place in around if mask[place]]
            for k in range(channels):
                values = np.array([maps[place][k] for place in around])
                local = generalised_mean(values, 2.5, 1e-6) if len(values) else 0.0
                smooth[y, x, k] = 0.5 * maps[y, x, k] + 0.5 * local
    return by_channel(smooth, mask, lambda values: generalised_mean(values, 4.6, 1e-8))


DEFINITIONS = {
    "spoc": spoc,
    "mac": mac,
    "gem": gem,
    "crow": crow,
    "superglobal": superglobal,
    "rmac": lambda maps, mask: over_regions(maps, mask, mac),
    "regional_gem": lambda maps, mask: over_regions(maps, mask, gem),
}


def activations(shape, seed=0):
    """Like those after a ReLU: about a third of them 0."""
    return np.maximum(np.random.default_rng(seed).normal(0.5, 1.0, shape), 0).astype(np.float32)


def some_mask(shape, seed=1):
    mask = np.random.default_rng(seed).random(shape) < 0.6
    mask.reshape(len(mask), -1)[:, 0] = True
    return mask


def expected(name, maps, mask=None):
    mask = np.ones(maps.shape[:-1], bool) if mask is None else mask
    return np.stack([DEFINITIONS[name](*row) for row in zip(maps.astype(np.float64), mask, strict=True)])


def gradients(layer, maps, mask=None, factors=1.0):
    """TensorFlow's gradients of the weighted sum of pooled values, with respect to the maps and to p."""
    layer(maps, mask=mask)
    maps = tf.constant(maps)
    with tf.GradientTape() as tape:
        tape.watch([maps, *(variable.value for variable in layer.variables)])
        total = tf.reduce_sum(layer(maps, mask=mask) * factors)
    return tape.gradient(total, [maps, *(variable.value for variable in layer.variables)])


def test_every_pooling_has_a_definition():
    assert set(DEFINITIONS) == set(POOLINGS)
    assert all(issubclass(pooling, Pooling) for pooling in POOLINGS.values())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", POOLINGS)
def test_values_are_the_definition(name, size):
    maps = activations((3, *size, 4))
    np.testing.assert_allclose(POOLINGS[name]()(maps), expected(name, maps), rtol=3e-5, atol=2e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", POOLINGS)
def test_masked_positions_do_not_count_whatever_they_hold(name, size):
    maps, mask = activations((3, *size, 4)), some_mask((3, *size))
    truth = expected(name, maps, mask)
    maps[~mask] = np.nan
    np.testing.assert_allclose(POOLINGS[name]()(maps, mask=mask), truth, rtol=3e-5, atol=2e-6)


@pytest.mark.parametrize("name", POOLINGS)
def test_a_mask_without_gaps_changes_nothing(name):
    maps, layer = activations((2, 5, 7, 4)), POOLINGS[name]()
    np.testing.assert_allclose(layer(maps, mask=np.ones((2, 5, 7), bool)), layer(maps), rtol=1e-6)


@pytest.mark.parametrize("name", POOLINGS)
def test_a_row_without_any_position_gives_zeros_and_no_gradient(name):
    maps, mask = activations((2, 5, 7, 4)), some_mask((2, 5, 7))
    mask[1] = False
    layer = POOLINGS[name]()
    pooled = np.asarray(layer(maps, mask=mask))
    assert (pooled[1] == 0).all() and pooled[0].any()
    by_maps, *by_p = gradients(layer, maps, mask)
    assert np.isfinite(by_maps).all() and all(np.isfinite(gradient).all() for gradient in by_p)
    assert not by_maps.numpy()[~mask].any() and by_maps.numpy()[0].any()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ON_TOKENS)
def test_tokens_are_pooled_as_the_positions_of_a_map(name, masked):
    tokens = activations((2, 10, 4))
    mask = some_mask((2, 10)) if masked else None
    truth = expected(name, tokens[:, :, None], None if mask is None else mask[:, :, None])
    np.testing.assert_allclose(POOLINGS[name]()(tokens, mask=mask), truth, rtol=3e-5, atol=2e-6)


@pytest.mark.parametrize("name", ON_TOKENS)
def test_a_keras_mask_is_taken_from_the_layer_before_and_ends_here(name):
    inputs = keras.Input((None, 4))
    masked = keras.layers.Masking(mask_value=-1.0)(inputs)
    model = keras.Model(inputs, POOLINGS[name]()(masked))
    tokens, mask = activations((2, 10, 4)), some_mask((2, 10))
    truth = expected(name, tokens[:, :, None], mask[:, :, None])
    tokens[~mask] = -1.0
    found = model(tokens)
    np.testing.assert_allclose(found, truth, rtol=3e-5, atol=2e-6)
    assert getattr(found, "_keras_mask", None) is None


@pytest.mark.parametrize("name", ON_GRIDS)
def test_tokens_are_refused_where_neighbours_matter(name):
    with pytest.raises(ValueError, match="reshape the tokens to their grid"):
        POOLINGS[name]()(activations((2, 10, 4)))
    with pytest.raises(ValueError, match="reshape the tokens to their grid"):
        POOLINGS[name]()(keras.Input((None, 4)))


@pytest.mark.parametrize("name", POOLINGS)
def test_tensors_and_masks_of_other_shapes_are_refused(name):
    with pytest.raises(ValueError, match=r"maps \[N, H, W, C\] or tokens \[N, T, C\] are wanted"):
        POOLINGS[name]()(np.ones((2, 3), np.float32))
    for shape in ((2, 3), (2, 3, 5), (2, 3, 4, 1)):
        with pytest.raises(ValueError, match="shape less its last axis is wanted"):
            POOLINGS[name]()(activations((2, 3, 4, 5)), mask=np.ones(shape, bool))


@pytest.mark.parametrize("name", POOLINGS)
def test_gradients_are_differences_of_the_definition(name):
    maps = np.random.default_rng(3).uniform(0.2, 2.0, (1, 4, 6, 3)).astype(np.float32)
    maps[0, 1, 2, 0], maps[0, 3, 3, 1] = 0.0, 0.0
    mask, factors = some_mask((1, 4, 6)), np.array([[0.7, -1.3, 2.0]])
    found = gradients(POOLINGS[name](), maps, mask, factors)[0].numpy()
    for place in np.ndindex(*maps.shape):
        if maps[place] == 0:
            continue  # the definitions have a kink there
        sides = [maps.astype(np.float64) for _ in range(2)]
        sides[0][place] -= 1e-5
        sides[1][place] += 1e-5
        low, high = ((expected(name, side, mask) * factors).sum() for side in sides)
        assert found[place] == pytest.approx((high - low) / 2e-5, rel=2e-3, abs=2e-4)


@pytest.mark.parametrize("name", EXPONENTS)
def test_the_exponents_gradient_is_the_difference_of_the_layer(name):
    maps, at = activations((2, 6, 8, 3)) + np.float32(0.1), EXPONENTS[name]
    layer = POOLINGS[name]()
    found = float(gradients(layer, maps)[1])
    low, high = (np.asarray(POOLINGS[name](p=p)(maps), np.float64).sum() for p in (at - 0.02, at + 0.02))
    assert found == pytest.approx((high - low) / 0.04, rel=5e-3)


@pytest.mark.parametrize("fill", ["zeros", "one position", "tiny", "huge", "wide"])
@pytest.mark.parametrize(
    ("name", "given"),
    [(name, {"p": p}) for name in EXPONENTS for p in (1.0, 3.0, 100.0)]
    + [(name, {}) for name in POOLINGS if name not in EXPONENTS],
)
def test_values_and_gradients_are_finite(name, given, fill):
    layer = POOLINGS[name](**given)
    maps = np.zeros((2, 5, 8, 3), np.float32)
    if fill == "one position":
        maps[:, 1, 2] = 7.0
    if fill in ("tiny", "huge"):
        maps[:] = {"tiny": 1e-30, "huge": 1e15}[fill]
    if fill == "wide":
        maps[:] = 10.0 ** np.random.default_rng(0).uniform(-12, 12, maps.shape)
    assert np.isfinite(layer(maps)).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients(layer, maps))


@pytest.mark.parametrize(("policy", "half"), [("mixed_bfloat16", tf.bfloat16), ("mixed_float16", tf.float16)])
@pytest.mark.parametrize("name", POOLINGS)
def test_under_mixed_precision_only_the_input_is_rounded(name, policy, half):
    maps = activations((2, 5, 7, 4))
    layer = POOLINGS[name](dtype=policy)
    pooled = layer(maps)
    rounded = tf.cast(tf.cast(maps, half), tf.float32).numpy()
    assert pooled.dtype == tf.float32
    assert all(weight.dtype == "float32" for weight in layer.weights)
    np.testing.assert_allclose(pooled, expected(name, rounded), rtol=3e-5, atol=2e-6)
    symbolic = POOLINGS[name](dtype=policy)(keras.Input((None, None, 8)))
    assert (symbolic.shape, symbolic.dtype) == ((None, 8), "float32")


@pytest.mark.parametrize("name", POOLINGS)
def test_saved_and_exported_it_pools_maps_of_any_size(name, tmp_path):
    accepted = inspect.signature(POOLINGS[name].__init__).parameters
    given = {key: value for key, value in {"p": 2.5, "trainable_p": True}.items() if key in accepted}
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, POOLINGS[name](**given, name="pooling")(inputs))
    for weight in model.weights:
        weight.assign(4.5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("pooling").get_config() == model.get_layer("pooling").get_config()
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    for size in SIZES:
        maps = activations((2, *size, 4))
        np.testing.assert_array_equal(loaded(maps), model(maps))
        np.testing.assert_allclose(exported.serve(maps), model(maps), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", POOLINGS)
def test_sizes_and_masks_need_not_be_known_when_a_graph_is_traced(name):
    layer = POOLINGS[name]()
    layer.build((None, None, None, 4))
    signature = [tf.TensorSpec([None, None, None, 4]), tf.TensorSpec([None, None, None], tf.bool)]
    traced = tf.function(lambda maps, mask: layer(maps, mask=mask), input_signature=signature)
    for size in SIZES:
        maps, mask = activations((2, *size, 4)), some_mask((2, *size))
        np.testing.assert_allclose(traced(maps, mask), layer(maps, mask=mask), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", POOLINGS)
def test_exponents_are_flags_where_there_are_any(name):
    accepted = set(inspect.signature(POOLINGS[name].__init__).parameters) & {"p", "per_channel", "trainable_p"}
    wanted = {"gem": 3, "regional_gem": 3, "superglobal": 2}.get(name, 0)
    assert len(accepted) == wanted
    layer = POOLINGS[name](name="pooling")
    layer.build((None, None, None, 4))
    assert [weight.name for weight in layer.weights] == ["p"] * (wanted > 0)
    assert len(layer.trainable_variables) == (name in ("gem", "regional_gem"))
