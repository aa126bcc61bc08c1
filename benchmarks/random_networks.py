"""Networks with random weights, for benchmarks of speed and of arithmetic."""

import keras
import numpy as np

from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor


def random_network(backbone: str) -> keras.Model:
    """Builds a descriptor network whose BatchNorm does something."""
    keras.utils.set_random_seed(0)
    network, random = build_descriptor(DescriptorConfig(backbone)), np.random.default_rng(0)
    for weight in network.weights:
        low_high = {"gamma": (0.5, 1.0), "moving_variance": (0.8, 1.2), "beta": (-0.1, 0.1), "moving_mean": (-0.1, 0.1)}
        if weight.path.rsplit("/", 1)[-1] in low_high:
            weight.assign(random.uniform(*low_high[weight.path.rsplit("/", 1)[-1]], weight.shape))
    return network
