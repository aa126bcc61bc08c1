"""One training step by this toolkit and by PyTorch: MobileNetV2-1.0 with GeM, the same weights, batch and optimiser.

The step is forward and backward, BatchNorm with the batch's statistics, the supervised contrastive loss and AdamW. The
photos are in memory on every side. What the loss is after the same steps is printed beside the speed.
Example: python -m benchmarks.training_peers
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import limits, timing
from pipelines import script
from tfretrieval.data import parallel
from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor
from tfretrieval.training import parameters
from tfretrieval.training.averaging import WeightAverage
from tfretrieval.training.config import TrainingConfig
from tfretrieval.training.distribution import Distribution
from tfretrieval.training.step import make_step

FLAGS = flags.FLAGS

flags.DEFINE_integer("size", 192, "Side of the photos in pixels.")
flags.DEFINE_integer("instances", 12, "Instances in a batch, of four photos each.")
flags.DEFINE_integer("steps", 4, "Steps in one timed run.")
flags.DEFINE_integer("rounds", 3, "Timed runs of each side.")
flags.DEFINE_string("output", "runs/benchmarks", "Folder of the JSON file and the chart.")

OURS, EAGER, CHANNELS_LAST = "this toolkit", "PyTorch eager", "PyTorch channels-last"


def our_step(model: keras.Model, config: TrainingConfig, photos: np.ndarray, labels: np.ndarray) -> Callable:
    """Returns a function that takes a step and returns the loss before it."""
    loss = config.make_loss()
    groups = parameters.parameter_groups(model, loss, config)
    average = WeightAverage(model, config.average, config.initial_share)
    step = make_step(model, loss, groups, config, Distribution(), average)
    batch, classes, number = tf.constant(photos), tf.constant(labels), tf.constant(0)
    return lambda: float(step(batch, classes, number))


def torch_step(
    model: keras.Model,
    config: TrainingConfig,
    photos: np.ndarray,
    labels: np.ndarray,
    channels_last: bool,
    one_sided: bool = False,
) -> Callable:
    """Returns the same in PyTorch, begun with the same weights; see `torch_networks.MobileNetGeM`."""
    import torch

    from benchmarks import torch_networks

    torch.set_num_threads(parallel.CORES)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = torch_networks.MobileNetGeM(one_sided).train()
    torch_networks.copy_mobilenet(model, network)
    network = network.to(memory_format=layout)
    rate, decay = config.learning_rate, config.weight_decay
    groups = [
        {"params": list(network.features.parameters()), "lr": rate, "weight_decay": decay},
        {"params": [network.pool.p], "lr": rate * config.p_multiplier, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, eps=1e-7)  # Keras's
    pixels = torch.from_numpy(photos).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    classes = torch.from_numpy(labels)

    def step() -> float:
        optimizer.zero_grad()
        loss = torch_networks.supervised_contrastive(network(pixels / 127.5 - 1), classes)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    """Times the sides."""
    if limits.optional("torch") is None:
        print("training_peers is left out: PyTorch is not installed; `make peers` installs it.")
        return
    parallel.set_threads()
    count = 4 * FLAGS.instances
    photos = np.random.default_rng(0).uniform(0, 255, (count, FLAGS.size, FLAGS.size, 3)).astype(np.float32)
    labels = np.repeat(np.arange(FLAGS.instances), 4)
    config = TrainingConfig(
        loss="supervised_contrastive", instances=FLAGS.instances, photos=4, image_size=FLAGS.size, train_statistics=True
    )
    keras.utils.set_random_seed(0)
    model = build_descriptor(DescriptorConfig("mobilenet_v2_1.0"))
    takers = {CHANNELS_LAST: torch_step(model, config, photos, labels, True)}
    takers[EAGER] = torch_step(model, config, photos, labels, False)
    takers = {OURS: our_step(model, config, photos, labels), **takers}
    losses: dict[str, list[float]] = {name: [] for name in takers}

    def run(name: str) -> Callable:
        return lambda: losses[name].extend(takers[name]() for _ in range(FLAGS.steps))

    seconds = timing.in_turn({name: run(name) for name in takers}, FLAGS.rounds)
    for name, found in losses.items():
        print(f"{name:>36}: loss {found[0]:.3f} at first, {found[-1]:.3f} after {len(found) - 1} steps")
    wanted = timing.held_against(seconds, {(OURS, EAGER): 1.5, (OURS, CHANNELS_LAST): 1.5})
    title, more = f"Training step of MobileNetV2-1.0, {count} photos of {FLAGS.size} px", {"wanted": wanted}
    items, settings = FLAGS.steps * count, script.flag_values(main)
    timing.report(
        "training_peers", seconds, items, settings, FLAGS.output, title=title, more={**more, "losses": losses}
    )


if __name__ == "__main__":
    script.run_main(main)
