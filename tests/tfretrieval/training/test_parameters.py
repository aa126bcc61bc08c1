import keras
import numpy as np
import pytest
import tensorflow as tf

from tfretrieval.layers import GeM
from tfretrieval.training import parameters
from tfretrieval.training.config import TrainingConfig


def toy_model(trainable_p=True):
    inputs = keras.Input((None, None, 2))
    maps = keras.layers.Conv2D(3, 1, activation="softplus", name="conv")(inputs)
    return keras.Model(inputs, GeM(3.0, per_channel=True, trainable_p=trainable_p, name="pooling")(maps))


def adamw(value, gradients, rate, decay):
    """Loshchilov and Hutter 2019: decoupled decay, bias-corrected moments, in float64."""
    value, first, second = np.asarray(value, np.float64), 0.0, 0.0
    for step, gradient in enumerate(np.asarray(gradients, np.float64), 1):
        value = value - rate * decay * value
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        # Keras adds its epsilon before the correction of the second moment.
        corrected = rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        value = value - corrected * first / (np.sqrt(second) + 1e-7)
    return value


def test_variables_are_split_by_role_and_none_is_left_out():
    model = toy_model()
    network, exponents = parameters.parameter_groups(model, None, TrainingConfig(p_multiplier=7.0))
    assert (network.role, network.multiplier, exponents.role, exponents.multiplier) == ("network", 1.0, "p", 7.0)
    assert [variable.name for variable in exponents.variables] == ["p"]
    found = {variable.path for variable in network.variables + exponents.variables}
    assert found == {variable.path for variable in model.trainable_variables}
    assert len(network.variables) == 2


def test_a_fixed_exponent_leaves_one_group():
    assert [group.role for group in parameters.parameter_groups(toy_model(False), None, TrainingConfig())] == [
        "network"
    ]


def test_steps_equal_adamw_by_hand_with_ps_own_rate_and_no_decay_on_p():
    config = TrainingConfig(p_multiplier=10.0, weight_decay=0.2)
    model = toy_model()
    groups = parameters.parameter_groups(model, None, config)
    variables = [variable for group in groups for variable in group.variables]
    before = [variable.numpy() for variable in variables]
    rng = np.random.default_rng(0)
    steps = [[rng.normal(size=variable.shape).astype(np.float32) for variable in variables] for _ in range(3)]
    parameters.set_learning_rate(groups, 0.01)
    for gradients in steps:
        parameters.apply_gradients(groups, [tf.constant(gradient) for gradient in gradients])
    for index, variable in enumerate(variables):
        is_p = variable.name == "p"
        rate, decay = (0.1, 0.0) if is_p else (0.01, 0.2)
        expected = adamw(before[index], [gradients[index] for gradients in steps], rate, decay)
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5, atol=1e-6, err_msg=variable.path)


def test_without_a_gradient_the_network_decays_and_p_does_not():
    model = toy_model()
    groups = parameters.parameter_groups(model, None, TrainingConfig(weight_decay=0.5))
    parameters.set_learning_rate(groups, 0.1)
    kernel = model.get_layer("conv").kernel.numpy()
    variables = [variable for group in groups for variable in group.variables]
    parameters.apply_gradients(groups, [tf.zeros(variable.shape) for variable in variables])
    np.testing.assert_allclose(model.get_layer("conv").kernel.numpy(), kernel * 0.95, rtol=1e-6)
    np.testing.assert_array_equal(model.get_layer("pooling").p.numpy(), np.float32(3))


def test_set_rate_is_followed_by_a_compiled_step():
    model = toy_model()
    groups = parameters.parameter_groups(model, None, TrainingConfig(weight_decay=0.0))
    variables = [variable for group in groups for variable in group.variables]
    step = tf.function(lambda: parameters.apply_gradients(groups, [tf.ones(v.shape) for v in variables]))
    moved = []
    for rate in (0.01, 0.003, 0.0):
        parameters.set_learning_rate(groups, rate)
        before = [variable.numpy() for variable in variables]
        step()
        moved.append([(old - new.numpy()).mean() for old, new in zip(before, variables, strict=True)])
    # A constant gradient moves Adam by exactly its rate.
    np.testing.assert_allclose(moved[0], [0.01, 0.01, 0.1], rtol=1e-3)
    np.testing.assert_allclose(moved[1], [0.003, 0.003, 0.03], rtol=1e-3)
    np.testing.assert_array_equal(moved[2], [0, 0, 0])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # Four steps of warm-up, ten steps in two epochs of five; highest rate 0.8.
        ("constant", [0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]),
        (
            "exponential",
            [0.2, 0.4, 0.6, 0.8, 0.8, *[0.8 * 0.9048374180359595] * 5],  # exp(-0.1) in the second epoch
        ),
        (
            "cosine",
            [
                0.2,  # 0.2 * (1 + cos 0) / 2
                0.4 * 0.9755282581475768,  # (1 + cos(pi / 10)) / 2
                0.6 * 0.9045084971874737,
                0.8 * 0.7938926261462366,
                0.8 * 0.6545084971874737,
                0.8 * 0.5,
                0.8 * 0.3454915028125263,
                0.8 * 0.2061073738537634,
                0.8 * 0.0954915028125263,
                0.8 * 0.0244717418524232,
            ],
        ),
    ],
)
def test_learning_rate_by_hand(schedule, expected):
    config = TrainingConfig(learning_rate=0.8, schedule=schedule, warmup=4, epochs=2, decay=0.1)
    found = [parameters.learning_rate(config, step, 5) for step in range(10)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_cosine_ends_at_0_and_no_warm_up_begins_at_the_highest_rate():
    config = TrainingConfig(learning_rate=0.8, schedule="cosine", warmup=0, epochs=3)
    assert parameters.learning_rate(config, 0, 7) == 0.8
    assert parameters.learning_rate(config, 21, 7) == pytest.approx(0, abs=1e-15)
