"""Parameter groups: which variables an optimiser moves, how fast, and with what decay."""

import dataclasses
import math

import keras
import tensorflow as tf

from tfretrieval.training.config import TrainingConfig


@dataclasses.dataclass(frozen=True)
class ParameterGroup:
    """Variables of one role with their own optimiser.

    Attributes:
        role: "network", "p" or "loss".
        multiplier: factor on the network's learning rate.
        optimizer: moves the variables.
        variables: the variables.
    """

    role: str
    multiplier: float
    optimizer: keras.optimizers.Optimizer
    variables: list


def parameter_groups(model: keras.Model, loss: keras.losses.Loss, config: TrainingConfig) -> list[ParameterGroup]:
    """Splits the trainable variables of a model and its loss by role.

    Adam divides a gradient by its own size, so a faster rate for some variables cannot be had by scaling their
    gradients; each role has an optimiser of its own.

    Returns:
        The groups that have variables: the network, with weight decay; GeM's p, at `p_multiplier` times the learning
        rate and without decay (Radenovic et al., TPAMI 2018); and what the loss owns, at `loss_learning_rate`.
    """
    exponents = [variable for variable in model.trainable_variables if variable.name == "p"]
    network = [variable for variable in model.trainable_variables if variable.name != "p"]
    owned = getattr(loss, "trainable_variables", [])
    roles = (
        ("network", 1.0, config.weight_decay, network),
        ("p", config.p_multiplier, 0.0, exponents),
        ("loss", config.loss_learning_rate / config.learning_rate if config.learning_rate else 0.0, 0.0, owned),
    )
    groups = []
    for role, multiplier, decay, variables in roles:
        if variables:
            optimizer = keras.optimizers.AdamW(
                config.learning_rate * multiplier, weight_decay=decay, name=f"adam_{role}"
            )
            optimizer.build(variables)
            groups.append(ParameterGroup(role, multiplier, optimizer, variables))
    return groups


def learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int) -> float:
    """Returns the network's learning rate at a step.

    Args:
        config: `learning_rate`, `schedule`, `decay`, `warmup` and `epochs` are read.
        step: number of steps done before, over all epochs.
        steps_per_epoch: steps in an epoch.

    Returns:
        The rate; with "cosine" it falls to 0 as the last step ends.
    """
    rate = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup))
    if config.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / max(1, steps_per_epoch * config.epochs)))
    if config.schedule == "exponential":
        rate *= math.exp(-config.decay * (step // max(1, steps_per_epoch)))
    return rate


def set_learning_rate(groups: list[ParameterGroup], rate: float) -> None:
    """Sets the rate of every group to its multiple of `rate`."""
    for group in groups:
        group.optimizer.learning_rate = rate * group.multiplier


def apply_gradients(groups: list[ParameterGroup], gradients: list[tf.Tensor]) -> None:
    """Applies gradients given in the order of the groups' variables."""
    start = 0
    for group in groups:
        stop = start + len(group.variables)
        group.optimizer.apply(gradients[start:stop], group.variables)
        start = stop
