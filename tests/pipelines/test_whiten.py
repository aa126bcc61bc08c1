import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfretrieval import console
from tfretrieval.data.augmentation import Augmentation
from tfretrieval.descriptors import Descriptors
from tfretrieval.extraction import Extractor
from tfretrieval.models.descriptor import DescriptorConfig
from tfretrieval.training.config import TrainingConfig
from tfretrieval.training.run_directory import RunDirectory
from tfretrieval.training.train import train
from tfretrieval.whitening import Whitening

ROOT = Path(__file__).parents[2]


def script(module, *flags):
    return subprocess.run([sys.executable, "-m", module, *flags], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def run(training_set, tmp_path_factory):
    config = TrainingConfig(
        loss="supervised_contrastive", instances=3, photos=2, steps=1, epochs=1, image_size=40, validation_share=0.0
    )
    output = tmp_path_factory.mktemp("run") / "run"
    return train(training_set, output, DescriptorConfig(backbone="small_resnet"), config, Augmentation(), {})[0]


@pytest.mark.slow
def test_the_network_of_a_whitened_run_gives_the_whitened_descriptors(run, training_set, tmp_path):
    records = f"--records={training_set.directory}"
    found = script("pipelines.extract", f"--model={run.path}", records, f"--output={tmp_path}/train")
    assert found.returncode == 0, found.stderr
    flags = (f"--checkpoint={run.path}", f"--descriptors={tmp_path}/train", f"--output={tmp_path}/whitened")
    done = script("pipelines.whiten", *flags, records, "--dimension=5")
    assert done.returncode == 0, done.stderr
    assert "256 -> 5 dimensions" in done.stdout
    whitened = RunDirectory.load(tmp_path / "whitened")
    vectors = Extractor(whitened.load_model(), 40)(
        training_set.split(), progress=lambda n: console.progress(None, "", n)
    )
    expected = Whitening.load(tmp_path / "whitened" / "whitening.npz").apply(
        Descriptors.load(tmp_path / "train").vectors
    )
    np.testing.assert_allclose(vectors, expected, atol=1e-3)
    refused = script("pipelines.whiten", *flags)
    assert refused.returncode == 2
    assert "needs --records" in refused.stderr
    refused = script("pipelines.whiten", *flags, records, "--which=untrained")
    assert refused.returncode == 2
    assert "extract them" in refused.stderr
