import keras
import numpy as np
import pytest
from keras.applications import imagenet_utils

from tfretrieval.layers import InputScaling
from tfretrieval.layers.input_scaling import MODES, scale_pixels


def random_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    pixels[0, 0, :2] = [[0], [255]]
    return pixels


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_equals_kerass_preprocess_input(mode, dtype):
    pixels = random_pixels()
    expected = imagenet_utils.preprocess_input(pixels.astype(np.float32), mode=mode)
    found = InputScaling(mode)(pixels.astype(dtype))
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


def test_none_leaves_values_as_they_are():
    np.testing.assert_array_equal(InputScaling("none")(random_pixels()), random_pixels().astype(np.float32))


def test_its_argument_is_not_changed():
    pixels = random_pixels().astype(np.float32)
    InputScaling("caffe")(pixels)
    np.testing.assert_array_equal(pixels, random_pixels())


@pytest.mark.parametrize("mode", MODES)
def test_half_precision_rounds_the_scaled_value_only(mode):
    pixels = random_pixels()
    found = InputScaling(mode, dtype="mixed_float16")(pixels)
    assert found.dtype == "float16"
    np.testing.assert_array_equal(found, np.asarray(scale_pixels(pixels, mode)).astype(np.float16))


def test_saved_in_a_model_it_loads_without_custom_objects(tmp_path):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, InputScaling("torch")(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.output_shape == (None, None, None, 3)
    np.testing.assert_array_equal(loaded(random_pixels()), model(random_pixels()))


def test_unknown_mode_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'pytorch' is unknown; one of tf, torch, caffe, none"):
        InputScaling("pytorch")


def test_a_mean_and_deviation_of_ones_own_are_used_and_saved(tmp_path):
    mean, std = (0.5, 0.4, 0.25), (0.5, 0.25, 0.2)
    inputs = keras.Input((None, None, 3))
    keras.Model(inputs, InputScaling("torch", mean, std)(inputs)).save(tmp_path / "model.keras")
    expected = (random_pixels() / 255.0 - np.array(mean)) / np.array(std)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(random_pixels()), expected, atol=1e-5)


def test_layers_saved_before_there_was_a_mean_load_as_they_were():
    config = InputScaling("torch").get_config()
    older = {name: value for name, value in config.items() if name not in ("mean", "std")}
    np.testing.assert_array_equal(
        InputScaling.from_config(older)(random_pixels()), scale_pixels(random_pixels(), "torch")
    )


@pytest.mark.parametrize(
    ("mode", "given"),
    [("caffe", {"mean": (1, 2, 3)}), ("torch", {"mean": (1, 2)}), ("torch", {"std": (1, 0, 1)})],
)
def test_a_mean_or_deviation_that_cannot_be_used_is_refused(mode, given):
    with pytest.raises(ValueError, match="three numbers with 'torch' are wanted"):
        InputScaling(mode, **given)
