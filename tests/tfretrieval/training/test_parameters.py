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


def role_model():
    """A network with a layer of each role."""
    inputs = keras.Input((None, None, 2))
    maps = keras.layers.Conv2D(3, 1, name="conv")(inputs)
    maps = keras.layers.BatchNormalization(name="norm")(maps)
    maps *= keras.layers.Conv2D(3, 1, activation="sigmoid", name="attention_1")(maps)
    pooled = GeM(3.0, name="pooling")(keras.layers.ReLU()(maps))
    return keras.Model(inputs, keras.layers.Dense(2, name="whitening")(pooled))


def walk(model, config, gradients, rate):
    """Applies steps of gradients; returns the variables in their order, and their values before."""
    groups = parameters.parameter_groups(model, None, config)
    variables = [variable for group in groups for variable in group.variables]
    before = [variable.numpy() for variable in variables]
    parameters.set_learning_rate(groups, rate)
    for step in gradients(variables):
        parameters.apply_gradients(groups, [tf.constant(gradient) for gradient in step])
    return variables, before


def large_gradients(steps, seed=0):
    """Gradients of 0.5 to 2 and of both signs, beside which no optimiser's epsilon counts."""
    rng = np.random.default_rng(seed)
    drawn = []

    def one(shape):
        return (rng.choice([-1, 1], shape) * rng.uniform(0.5, 2, shape)).astype(np.float32)

    def draw(variables):
        drawn.extend([one(variable.shape) for variable in variables] for _ in range(steps))
        return drawn

    return draw, drawn


def adam(value, gradients, rate, decay):
    """Kingma and Ba 2015 with L2 regularisation: the decay is part of the gradient. In float64."""
    value, first, second = np.asarray(value, np.float64), 0.0, 0.0
    for step, gradient in enumerate(np.asarray(gradients, np.float64), 1):
        whole = gradient + decay * value
        first = 0.9 * first + 0.1 * whole
        second = 0.999 * second + 0.001 * whole**2
        mean, size = first / (1 - 0.9**step), np.sqrt(second / (1 - 0.999**step))
        value = value - rate * mean / (size + 1e-7)
    return value


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


def test_every_layers_variables_have_its_role_and_multiplier():
    config = TrainingConfig(p_multiplier=100.0, whitening_multiplier=2.0, attention_multiplier=5.0, weight_decay=0.1)
    groups = parameters.parameter_groups(role_model(), None, config)
    found = {group.role: (group.multiplier, group.decay, sorted(v.path for v in group.variables)) for group in groups}
    assert found == {
        "network": (1.0, 0.1, ["conv/bias", "conv/kernel", "norm/beta", "norm/gamma"]),
        "attention": (5.0, 0.1, ["attention_1/bias", "attention_1/kernel"]),
        "whitening": (2.0, 0.1, ["whitening/bias", "whitening/kernel"]),
        "p": (100.0, 0.0, ["pooling/p"]),
    }
    parameters.set_learning_rate(groups, 0.01)
    rates = [float(group.optimizer.learning_rate) for group in groups]
    np.testing.assert_allclose(rates, [0.01, 0.05, 0.02, 1.0], rtol=1e-6)


def test_attention_within_a_composite_layer_is_the_networks():
    class Block(keras.layers.Layer):
        def build(self, shape):
            self.attention = keras.layers.Dense(3, name="attention")
            self.attention.build(shape)

        def call(self, inputs):
            return self.attention(inputs)

    block = Block(name="block_1")
    block(np.zeros((1, 3)))
    assert {variable.path for variable in block.trainable_variables} == {
        "block_1/attention/kernel",
        "block_1/attention/bias",
    }
    assert {parameters.role_of(variable) for variable in block.trainable_variables} == {"network"}


def test_what_the_loss_owns_has_its_own_rate_and_no_decay():
    loss = TrainingConfig(loss="norm_softmax").make_loss()
    loss.build(4, 3, 0)
    config = TrainingConfig(learning_rate=1e-3, loss_learning_rate=5e-3, weight_decay=0.1)
    group = parameters.parameter_groups(toy_model(), loss, config)[-1]
    assert (group.role, group.multiplier, group.decay) == ("loss", pytest.approx(5.0), 0.0)


@pytest.mark.parametrize("kind", ["decoupled", "coupled"])
def test_without_decay_of_norms_only_kernels_decay(kind):
    config = TrainingConfig(weight_decay=0.5, decay_kind=kind, decay_norms=False, optimizer="sgd")
    model = role_model()
    groups = parameters.parameter_groups(model, None, config)
    assert [group.role for group in groups] == [
        "network", "network norms", "attention", "attention norms", "whitening", "whitening norms", "p"
    ]  # fmt: skip
    assert sum(len(group.variables) for group in groups) == len(model.trainable_variables)
    variables, before = walk(model, config, lambda variables: [[np.zeros(v.shape, np.float32) for v in variables]], 0.1)
    for variable, old in zip(variables, before, strict=True):
        factor = 0.95 if variable.name == "kernel" else 1.0  # 1 - rate * decay, by either kind in SGD's first step
        np.testing.assert_allclose(variable.numpy(), factor * old, rtol=1e-6, err_msg=variable.path)


def test_coupled_decay_equals_adam_with_l2_by_hand():
    config = TrainingConfig(weight_decay=0.3, decay_kind="coupled", p_multiplier=10.0, whitening_multiplier=3.0)
    draw, drawn = large_gradients(5)
    variables, before = walk(role_model(), config, draw, 0.01)
    for index, variable in enumerate(variables):
        rate, decay = {"p": (0.1, 0.0), "whitening": (0.03, 0.3)}.get(parameters.role_of(variable), (0.01, 0.3))
        expected = adam(before[index], [gradients[index] for gradients in drawn], rate, decay)
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5, atol=2e-6, err_msg=variable.path)


TORCH = {
    ("adam", "coupled"): lambda torch, values: torch.optim.Adam(values, lr=0.01, weight_decay=0.3),
    ("adam", "decoupled"): lambda torch, values: torch.optim.AdamW(values, lr=0.01, weight_decay=0.3),
    ("sgd", "coupled"): lambda torch, values: torch.optim.SGD(values, lr=0.01, weight_decay=0.3, momentum=0.9),
}


@pytest.mark.parametrize(("optimizer", "kind"), TORCH)
def test_steps_equal_pytorchs(optimizer, kind):
    # PyTorch's Adam adds an epsilon of 1e-8 after the correction, Keras 1e-7 before: no difference at these gradients.
    torch = pytest.importorskip("torch")
    config = TrainingConfig(weight_decay=0.3, decay_kind=kind, optimizer=optimizer, p_multiplier=1.0)
    model = role_model()
    model.get_layer("pooling").trainable = False  # p has no decay, and the other side has one group
    draw, drawn = large_gradients(6, seed=1)
    variables, before = walk(model, config, draw, 0.01)
    theirs = [torch.nn.Parameter(torch.tensor(value)) for value in before]
    stepper = TORCH[optimizer, kind](torch, theirs)
    for gradients in drawn:
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        stepper.step()
    for variable, other in zip(variables, theirs, strict=True):
        np.testing.assert_allclose(variable.numpy(), other.detach().numpy(), rtol=1e-5, atol=2e-6)


def test_the_two_decays_differ():
    ends = []
    for kind in ("decoupled", "coupled"):
        keras.utils.set_random_seed(0)
        draw, _ = large_gradients(3)
        variables, _ = walk(role_model(), TrainingConfig(weight_decay=0.3, decay_kind=kind), draw, 0.01)
        ends.append(variables[0].numpy())
    assert np.abs(ends[0] - ends[1]).max() > 1e-3


@pytest.mark.parametrize("kind", ["decoupled", "coupled"])
def test_a_variable_without_a_gradient_stays(kind):
    model = toy_model()
    groups = parameters.parameter_groups(model, None, TrainingConfig(weight_decay=0.5, decay_kind=kind))
    parameters.set_learning_rate(groups, 0.1)
    variables = [variable for group in groups for variable in group.variables]
    before = [variable.numpy() for variable in variables]
    parameters.apply_gradients(groups, [None, *(tf.ones(variable.shape) for variable in variables[1:])])
    np.testing.assert_array_equal(variables[0].numpy(), before[0])
    assert (variables[1].numpy() != before[1]).all()


def test_lines_tell_each_group():
    config = TrainingConfig(p_multiplier=100.0, weight_decay=1e-6, decay_kind="coupled", decay_norms=False)
    assert parameters.group_lines(parameters.parameter_groups(toy_model(), None, config)) == [
        "network: 1 variable of 6 parameters, learning rate x 1, coupled weight decay 1e-06",
        "network norms: 1 variable of 3 parameters, learning rate x 1, no weight decay",
        "p: 1 variable of 3 parameters, learning rate x 100, no weight decay",
    ]


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
