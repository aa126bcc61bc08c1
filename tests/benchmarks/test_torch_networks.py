import keras
import numpy as np
import pytest

from tfretrieval.losses.supervised_contrastive import supervised_contrastive
from tfretrieval.models.descriptor import DescriptorConfig, build_descriptor

pytest.importorskip("torch")

import torch

from benchmarks import torch_networks


def test_mobilenets_with_the_same_weights_agree_in_training():
    keras.utils.set_random_seed(0)
    model = build_descriptor(DescriptorConfig("mobilenet_v2_1.0"))
    network = torch_networks.MobileNetGeM(one_sided=True)
    torch_networks.copy_mobilenet(model, network)
    photos = np.random.default_rng(0).uniform(0, 255, (8, 64, 64, 3)).astype(np.float32)
    pixels = torch.from_numpy(photos).permute(0, 3, 1, 2) / 127.5 - 1
    # Without a batch's statistics, random weights let values die away, down to where GeM's smallest value decides.
    ours = np.asarray(model(photos, training=True))
    theirs = network.train()(pixels).detach().numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


def test_the_loss_is_this_toolkits():
    vectors = np.random.default_rng(0).standard_normal((12, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.repeat(np.arange(3), 4)
    theirs = torch_networks.supervised_contrastive(torch.from_numpy(vectors), torch.from_numpy(labels))
    assert float(theirs) == pytest.approx(float(supervised_contrastive(vectors, labels)), rel=1e-5)
