import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.training.averaging import WeightAverage


def toy_model():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((2,))
    hidden = keras.layers.BatchNormalization(name="norm")(keras.layers.Dense(3, name="dense")(inputs))
    return keras.Model(inputs, keras.layers.Dropout(0.5, seed=3)(hidden))


def weights_of(model):
    return {weight.path: weight.numpy() for weight in model.weights}


def set_to(model, value):
    for weight in model.weights:
        if "float" in weight.dtype:
            weight.assign(np.full(weight.shape, value, np.float32))


def test_average_of_three_steps_by_hand():
    model = toy_model()
    set_to(model, 1.0)
    average = WeightAverage(model, decay=0.2, initial_share=0.0)
    update = tf.function(average.update)
    for step, value in enumerate((2.0, 3.0, 5.0)):
        set_to(model, value)
        update(tf.constant(step))
    # The decay is min(0.2, (1 + step) / (10 + step)): 1/10, 2/11, then 0.2 instead of 3/12.
    first = 0.1 * 1 + 0.9 * 2
    second = 2 / 11 * first + 9 / 11 * 3
    third = 0.2 * second + 0.8 * 5
    with average.applied():
        for path, value in weights_of(model).items():
            if "seed_generator" not in path:
                np.testing.assert_allclose(value, third, rtol=1e-6, err_msg=path)


def test_batch_norm_statistics_are_averaged_like_the_rest():
    model = toy_model()
    average = WeightAverage(model, decay=0.9, initial_share=0.0)
    model.get_layer("norm").moving_mean.assign([10.0, 20.0, 30.0])
    average.update(tf.constant(0))
    with average.applied():
        np.testing.assert_allclose(model.get_layer("norm").moving_mean.numpy(), [9, 18, 27], rtol=1e-6)


@pytest.mark.parametrize(("decay", "share"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.3), (0.9, 0.3)])
def test_the_trainings_own_weights_come_back_bit_for_bit(decay, share):
    model = toy_model()
    average = WeightAverage(model, decay, share)
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.normal(size=w.shape).astype(np.float32) if w.dtype == np.float32 else w for w in model.get_weights()]
    )
    average.update(tf.constant(5))
    before = weights_of(model)
    with average.applied():
        applied = weights_of(model)
    for path, value in weights_of(model).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)
    changed = any((applied[path] != before[path]).any() for path in before)
    assert changed == bool(decay or share)


def test_they_come_back_after_an_error_too():
    model = toy_model()
    average = WeightAverage(model, 0.0, 0.5)
    set_to(model, 4.0)
    with pytest.raises(RuntimeError), average.applied():
        raise RuntimeError
    assert model.get_layer("dense").bias.numpy().tolist() == [4, 4, 4]


def test_the_initial_weights_are_mixed_in_by_their_share():
    model = toy_model()
    set_to(model, 10.0)
    plain, moving = WeightAverage(model, 0.0, 0.25), WeightAverage(model, 0.9, 0.25)
    set_to(model, 2.0)
    for average in (plain, moving):
        average.update(tf.constant(0))
    with plain.applied():
        np.testing.assert_allclose(model.get_layer("dense").bias.numpy(), 0.25 * 10 + 0.75 * 2, rtol=1e-6)
    with moving.applied():
        expected = 0.25 * 10 + 0.75 * (0.1 * 10 + 0.9 * 2)
        np.testing.assert_allclose(model.get_layer("dense").bias.numpy(), expected, rtol=1e-6)


def test_without_average_there_is_nothing_to_keep_and_random_state_is_never_averaged():
    assert WeightAverage(toy_model(), 0.0, 0.5).variables == []
    model = toy_model()
    kept = WeightAverage(model, 0.9, 0.0).variables
    assert len(kept) == len([weight for weight in model.weights if "float" in weight.dtype])
    assert all(variable.dtype == tf.float32 for variable in kept)
